/** The other side of `record-thread.ts`: makes records, one after the other. */
import { parentPort, workerData } from "node:worker_threads";
import { toRecord } from "./record.ts";
import type { FromThread, ThreadData, ToThread } from "./record-thread.ts";
import { createRedactor } from "./redact.ts";
import type { CapturedBody, FlowDraft } from "./sink.ts";

const { door, limits, known } = workerData as ThreadData;
let redactor = createRedactor(known);
let turn: Promise<void> = Promise.resolve();

parentPort?.on("message", (message: ToThread) => {
  turn = turn.then(() => serve(message));
});

async function serve(message: ToThread): Promise<void> {
  if ("known" in message) {
    redactor = createRedactor(message.known);
    return;
  }
  const { draft, number } = message;
  let answer: FromThread;
  try {
    const redaction = redactor.begin(draft.secrets);
    const record = await toRecord(withBuffers(draft), door, redaction, limits);
    answer = { number, record: JSON.stringify(record), error: null };
  } catch (error) {
    answer = { number, record: null, error: (error as Error).message };
  }
  parentPort?.postMessage(answer);
}

/** What crosses over arrives as plain bytes. */
function withBuffers(draft: FlowDraft): FlowDraft {
  const { request, response, messages } = draft;
  return {
    ...draft,
    request: request && { ...request, body: buffer(request.body) },
    response: response && { ...response, body: buffer(response.body) },
    messages: messages?.map((one) => ({ ...one, body: buffer(one.body) as CapturedBody })) ?? null,
  };
}

function buffer(body: CapturedBody | null): CapturedBody | null {
  if (body === null) return null;
  const { buffer: memory, byteOffset, byteLength } = body.kept;
  return { kept: Buffer.from(memory, byteOffset, byteLength), byteCount: body.byteCount };
}
