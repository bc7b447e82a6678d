/**
 * A thread that makes records of large drafts (`record-worker.ts`). Bodies are copied for it once,
 * and given away.
 */
import { Worker } from "node:worker_threads";
import type { FlowRecord } from "../contract/flows.ts";
import type { RecordLimits } from "./record.ts";
import type { KnownSecrets } from "./secret-forms.ts";
import type { CapturedBody, FlowDraft } from "./sink.ts";

export interface ThreadData {
  readonly door: FlowRecord["door"];
  readonly limits: RecordLimits;
  readonly known: KnownSecrets;
}

export type ToThread =
  | { readonly draft: FlowDraft; readonly number: number }
  | { readonly known: KnownSecrets };

export interface FromThread {
  readonly number: number;
  readonly record: string | null;
  readonly error: string | null;
}

export interface RecordThread extends AsyncDisposable {
  /** The record as JSON. @throws Error when the thread failed, or ended before it was done. */
  toRecord(draft: FlowDraft): Promise<string>;
  know(known: KnownSecrets): void;
}

interface Waiting {
  resolve: (record: string) => void;
  reject: (error: Error) => void;
}

export function openRecordThread(data: ThreadData): RecordThread {
  // Run from its source, or as it was compiled.
  const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
  const worker = new Worker(new URL(`./record-worker.${extension}`, import.meta.url), {
    workerData: data,
  });
  const waiting = new Map<number, Waiting>();
  let lastNumber = 0;
  let failure: Error | null = null;
  worker.unref();
  worker.on("message", onMessage);
  worker.on("error", (error) => fail(error as Error));
  worker.on("exit", () => fail(new Error("the thread ended")));
  return { toRecord, know, [Symbol.asyncDispose]: dispose };

  function toRecord(draft: FlowDraft): Promise<string> {
    if (failure !== null) return Promise.reject(failure);
    const number = ++lastNumber;
    const transfers: ArrayBuffer[] = [];
    const message: ToThread = { draft: withOwnBytes(draft, transfers), number };
    return new Promise((resolve, reject) => {
      waiting.set(number, { resolve, reject });
      // Only while something is asked of it does it keep the process alive.
      worker.ref();
      worker.postMessage(message, transfers);
    });
  }

  function onMessage({ number, record, error }: FromThread): void {
    const asked = waiting.get(number);
    waiting.delete(number);
    if (waiting.size === 0) worker.unref();
    if (record !== null) asked?.resolve(record);
    else asked?.reject(new Error(error ?? "no record"));
  }

  function know(known: KnownSecrets): void {
    if (failure === null) worker.postMessage({ known } satisfies ToThread);
  }

  function fail(error: Error): void {
    failure ??= error;
    for (const { reject } of waiting.values()) reject(failure);
    waiting.clear();
  }

  async function dispose(): Promise<void> {
    await worker.terminate();
  }
}

/** A part of a larger memory would be copied with all of it. */
function withOwnBytes(draft: FlowDraft, transfers: ArrayBuffer[]): FlowDraft {
  const { request, response, messages } = draft;
  return {
    ...draft,
    request: request && { ...request, body: own(request.body) },
    response: response && { ...response, body: own(response.body) },
    messages: messages?.map((one) => ({ ...one, body: own(one.body) as CapturedBody })) ?? null,
  };

  function own(body: CapturedBody | null): CapturedBody | null {
    if (body === null) return null;
    const kept = Buffer.from(Uint8Array.from(body.kept).buffer);
    transfers.push(kept.buffer as ArrayBuffer);
    return { kept, byteCount: body.byteCount };
  }
}
