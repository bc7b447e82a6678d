/** P5: memory with streams open, and with bodies far over what is taken. */
import { type Bench, type Running, requestsTo, runningOf } from "./bench.ts";
import { print, printBar, printTable, rounded } from "./figures.ts";
import { openConnection, spread } from "./load.ts";
import { chatBodies } from "./requests.ts";

const MB = 1_048_576;
const STREAMS = 400;
const MANY_STREAMS = 1_000;
const HUGE_BYTES = 100 * MB;
const LIMITS = { streams: 200, bodies: 50 };
const LEFT_OUT = ["litellm"];

interface Weights {
  idle: number;
  streams: number;
  many: number;
  bodies: number;
  refusal: string;
}

export async function measureMemory(bench: Bench): Promise<void> {
  const weights = new Map<string, Weights>();
  for (const contender of runningOf(bench)) {
    if (LEFT_OUT.includes(contender.name)) continue;
    weights.set(contender.name, await weightsOf(contender));
  }
  if (!bench.isJson) {
    print("P5: memory (PSS, MB)");
    printTable(
      ["", "idle", `${STREAMS} streams`, `${MANY_STREAMS} streams`, "four 100 MB bodies", "answer"],
      [...weights].map(([name, one]) => [
        name,
        String(rounded(one.idle)),
        String(rounded(one.streams)),
        String(rounded(one.many)),
        `+${rounded(one.bodies)}`,
        one.refusal.slice(0, 40),
      ]),
    );
    print("");
  }
  const ours = weights.get("autocode");
  if (ours === undefined) return;
  const of = (read: (one: Weights) => number) =>
    Object.fromEntries([...weights].map(([name, one]) => [name, rounded(read(one))]));
  const at = (unit: string, read: (one: Weights) => number, limit: number) =>
    printBar(
      { bar: "P5", value: read(ours), unit, limit, is: "at most", peers: of(read) },
      bench.isJson,
    );
  at(`MB at ${STREAMS} streams`, (one) => one.streams, LIMITS.streams);
  at("MB more with four 100 MB bodies", (one) => one.bodies, LIMITS.bodies);
}

async function weightsOf(contender: Running): Promise<Weights> {
  const { process } = contender;
  const weight = async () => (await process.memoryBytes()) / MB;
  const idle = await weight();
  const [streams, many] = [await atStreams(STREAMS), await atStreams(MANY_STREAMS)];
  const before = await weight();
  let refusal = "";
  const bodies = await peak(async () => {
    const [body] = chatBodies(1, { bytes: HUGE_BYTES, isStream: false });
    const [request] = requestsTo(contender, [body as Buffer]);
    const sending = Array.from({ length: 4 }, async () => {
      const connection = await openConnection(process.port);
      const answer = await connection.send(request as Buffer).catch((error: Error) => error);
      refusal = answer instanceof Error ? answer.message : String(answer.status);
      connection.close();
    });
    await Promise.all(sending);
  });
  return { idle, streams, many, bodies: Math.max(0, bodies - before), refusal };

  /** The most while so many streams are open. */
  function atStreams(count: number): Promise<number> {
    const bodies = chatBodies(64, { bytes: 2_048, isStream: true });
    const requests = requestsTo(contender, bodies);
    return peak(() => spread(process.port, requests, { count, overMs: 1_000 }));
  }

  async function peak(run: () => Promise<unknown>): Promise<number> {
    let most = 0;
    let isOver = false;
    const running = run().finally(() => {
      isOver = true;
    });
    while (!isOver) {
      most = Math.max(most, await weight());
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    await running;
    return most;
  }
}
