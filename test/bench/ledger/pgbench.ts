/**
 * pgbench, PostgreSQL's own bench, as the limit: the same two statements on the same rows of the
 * same server, each a transaction of its own, prepared, from a client in C.
 */
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { SQL } from "drizzle-orm";
import { PgDialect } from "drizzle-orm/pg-core";
import { reserveStatement, resolveStatement } from "../../../orchestrator/ledger/single.ts";
import type { TransferId } from "../../../orchestrator/runtime/ids.ts";
import type { Path } from "./paths.ts";

const run = promisify(execFile);
/** Where Debian's package has it, which is not on every PATH. */
const DEBIAN = "/usr/lib/postgresql";
const PENDING: TransferId = "transfer_pending";
const RESOLUTION: TransferId = "transfer_resolution";
const NOW_MS = Date.parse("2026-01-01T00:00:00Z");
const TIMEOUT_MS = 60_000;
const SECONDS_MAX = 60;

export interface Figures {
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
}

/** The program's path; null when this machine has none (it is in PostgreSQL's server package). */
export async function findPgbench(): Promise<string | null> {
  const versions = await readdir(DEBIAN).catch(() => []);
  const places = versions.toSorted((a, b) => Number(b) - Number(a));
  for (const path of ["pgbench", ...places.map((version) => `${DEBIAN}/${version}/bin/pgbench`)]) {
    const found = await run(path, ["--version"]).catch(() => null);
    if (found !== null) return path;
  }
  return null;
}

export interface Load {
  url: string;
  callers: number;
  seconds: number;
  path: Path;
}

/** Reserve and settle pairs of `callers` for so long, and longer where not one was done in it. */
export async function runPgbench(program: string, load: Load): Promise<Figures> {
  for (let { seconds } = load; ; seconds *= 2) {
    const figures = await runOnce(program, { ...load, seconds });
    if (figures !== null) return figures;
    if (seconds > SECONDS_MAX) throw new Error(`pgbench did nothing in ${seconds} s`);
  }
}

async function runOnce(
  program: string,
  { url, callers, seconds, path }: Load,
): Promise<Figures | null> {
  const folder = await mkdtemp(join(tmpdir(), "autocode-pgbench-"));
  try {
    const script = join(folder, "pair.sql");
    await writeFile(script, pairScript(path));
    const threads = String(Math.min(2, callers));
    const size = ["-c", String(callers), "-j", threads, "-T", String(seconds)];
    const how = ["-n", "-M", "prepared", "-l", "--log-prefix", join(folder, "log"), "-f", script];
    const { stdout } = await run(program, [...how, ...size, url], { maxBuffer: 1 << 24 });
    const rate = /tps = ([\d.]+)/.exec(stdout)?.[1];
    if (/actually processed: 0\b/.test(stdout)) return null;
    if (rate === undefined || !/failed transactions: 0 /.test(stdout)) throw new Error(stdout);
    return { perSecond: Number(rate), ...percentiles(await readLogs(folder)) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Milliseconds of each transaction, from lines of: client, transaction, microseconds, … */
async function readLogs(folder: string): Promise<number[]> {
  const names = (await readdir(folder)).filter((name) => name.startsWith("log"));
  const texts = await Promise.all(names.map((name) => readFile(join(folder, name), "utf8")));
  return texts
    .flatMap((text) => text.split("\n"))
    .flatMap((line) => line.split(" ")[2] ?? [])
    .map((micros) => Number(micros) / 1_000);
}

export function percentiles(tookMs: readonly number[]): { p50Ms: number; p99Ms: number } {
  const sorted = tookMs.toSorted((a, b) => a - b);
  const at = (part: number) => sorted[Math.floor(sorted.length * part)] ?? 0;
  return { p50Ms: at(0.5), p99Ms: at(0.99) };
}

/** The ledger's own statements, with ids that pgbench draws. */
function pairScript({ budget, within, spend }: Path): string {
  const reservation = { id: PENDING, budget, within, spend, amountNanos: 1_000n };
  const settlement = { id: RESOLUTION, pendingId: PENDING, amountNanos: 300n };
  const statements = [
    reserveStatement({ ...reservation, timeoutMs: TIMEOUT_MS }, NOW_MS),
    resolveStatement({ op: "settle", ...settlement }, NOW_MS),
  ];
  const draw = "\\set drawn random(1, 9223372036854775806)";
  return `${[draw, ...statements.map((one) => `${inline(one)};`)].join("\n")}\n`;
}

function inline(statement: SQL): string {
  const { sql, params } = new PgDialect().sqlToQuery(statement);
  const text = sql.replaceAll(/\$(\d+)/g, (_, number: string) =>
    literal(params[Number(number) - 1]),
  );
  // Our comments are ours; a colon in one would be a variable to pgbench.
  return text
    .replaceAll(/--.*$/gm, "")
    .replaceAll(/\/\*.*?\*\//g, "")
    .replaceAll(/\s+/g, " ");
}

function literal(value: unknown): string {
  if (value === PENDING) return drawnId("0");
  if (value === RESOLUTION) return drawnId("1");
  if (Array.isArray(value)) return `'{${value.join(",")}}'`;
  if (typeof value === "string" && /^\d{4}-\d\d-\d\dT/.test(value)) {
    const isDue = Date.parse(value) > NOW_MS;
    return isDue ? `(now() + interval '${TIMEOUT_MS} ms')` : "now()";
  }
  return typeof value === "string" ? `'${value}'` : String(value);
}

function drawnId(first: string): string {
  return `('transfer_${first}' || lpad(to_hex(:drawn::bigint), 25, '0'))`;
}
