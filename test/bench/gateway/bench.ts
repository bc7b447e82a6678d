/** What the parts of the gateway's bench share. */
import { type LoadResult, requestOf, type Target } from "./load.ts";
import { cpuOf, type Measured, prioritise } from "./processes.ts";

export interface Running {
  name: string;
  note: string;
  process: Measured;
  headers: Record<string, string>;
  /** Keys in turns; null: none is asked for. */
  keys: readonly string[] | null;
}

/** A contender that is absent is told of and left out. */
export type Contender = Running | { name: string; note: string; process: null };

export interface Bench {
  isJson: boolean;
  rounds: number;
  forMs: number;
  /** Of the open loop. */
  perSecond: number;
  streams: number;
  upstreamPort: number;
  /** PostgreSQL's, whose CPU is told apart. */
  serverPid: number;
  contenders: readonly Contender[];
}

export const PATH = "/v1/chat/completions";

export function runningOf(bench: Bench): Running[] {
  return bench.contenders.filter((contender): contender is Running => contender.process !== null);
}

/** The names of those that could not be had. */
export function absentOf(bench: Bench): string[] {
  return bench.contenders.filter(({ process }) => process === null).map(({ name }) => name);
}

/** The bodies as requests to a contender, its keys in turns. */
export function requestsTo(contender: Running, bodies: readonly Buffer[]): Buffer[] {
  const { process, headers, keys } = contender;
  const target: Target = { port: process.port, path: PATH, headers };
  const count = Math.max(bodies.length, keys?.length ?? 0);
  return Array.from({ length: count }, (_, index) =>
    requestOf(
      target,
      bodies[index % bodies.length] as Buffer,
      keys === null ? "bench" : (keys[index % keys.length] as string),
    ),
  );
}

export function requestsDirect(bench: Bench, bodies: readonly Buffer[]): Buffer[] {
  const target: Target = { port: bench.upstreamPort, path: PATH, headers: {} };
  return bodies.map((body) => requestOf(target, body, null));
}

export interface Weighed {
  result: LoadResult;
  /** CPU of the contender, and of PostgreSQL, in microseconds. */
  cpuUs: number;
  serverUs: number;
}

/** Runs a load and weighs what it cost the contender. */
export async function weigh(
  bench: Bench,
  contender: Running,
  load: () => Promise<LoadResult>,
): Promise<Weighed> {
  // Connections that were opened since.
  await prioritise(bench.serverPid);
  const [before, serverBefore] = await Promise.all([
    contender.process.cpuUs(),
    cpuOf(bench.serverPid),
  ]);
  const result = await load();
  const [after, serverAfter] = await Promise.all([
    contender.process.cpuUs(),
    cpuOf(bench.serverPid),
  ]);
  return { result, cpuUs: after - before, serverUs: serverAfter - serverBefore };
}
