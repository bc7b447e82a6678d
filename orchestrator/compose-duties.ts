/** This orchestrator among those of its database: seat, duties, entry in the register. */
import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { makePassage } from "../worker-agent/rooms.ts";
import type { Access } from "./api/access.ts";
import { RESTORING_MARK } from "./backup/backup.ts";
import type { Finding } from "./contract/system.ts";
import type { Database } from "./db/database.ts";
import { openDuties, type PostgresDuties } from "./duties/postgres.ts";
import { createRegister, type Register } from "./duties/register.ts";
import { openSeats, type Seat, type Seats, type Sitter } from "./duties/seats.ts";
import { Problem } from "./problem.ts";
import type { Layout } from "./projects/layout.ts";
import type { Ids } from "./runtime/ids.ts";
import type { Log } from "./runtime/log.ts";

/** A killed leader's duties are another's after a lease and a look: 8 s at most. */
export const LEASE_MS = 6_000;
export const RENEW_MS = 2_000;

export interface Place extends AsyncDisposable {
  seats: Seats;
  seat: Seat;
}

/** The seat is taken before anything else is opened: what is ours alone follows from it. */
export async function takePlace(layout: Layout, { isRestoring = false } = {}): Promise<Place> {
  const isHalf = await stat(join(layout.home, RESTORING_MARK)).then(
    () => true,
    () => false,
  );
  if (isHalf && !isRestoring) {
    throw new Problem(
      "conflict",
      `A restore of ${layout.home} was cut off before its end: run \`autocode restore\` again`,
    );
  }
  // Before the closed ones below it, whatever the umask.
  await makePassage(layout.shared);
  const seats = await openSeats(layout.orchestrators, hostname());
  const seat = await seats.take();
  return { seats, seat, [Symbol.asyncDispose]: () => seat[Symbol.asyncDispose]() };
}

export interface Membership extends AsyncDisposable {
  duties: PostgresDuties;
  register: Register;
  /** From here on the others count on us. @throws as `joinOrchestrators` */
  enter(url: string): Promise<void>;
}

/**
 * Joins the orchestrators of `db`.
 *
 * @throws Problem `conflict` when one of them lives on another data folder, signs with another key
 * or has another scheduler: bundles, secrets or workers would be there for one of them alone.
 */
export async function joinOrchestrators({
  db,
  place,
  ids,
  log,
  key,
  scheduler,
  version,
}: {
  db: Database;
  place: Place;
  ids: Ids;
  log: Log;
  /** The public key of our secrets. */
  key: string;
  /** The name of our scheduler. */
  scheduler: string;
  version: string;
}): Promise<Membership> {
  const { seats, seat } = place;
  const id = ids.next("process");
  const host = hostname();
  const register = createRegister(db, log, {
    ...{ id, host, version },
    heartbeatMs: RENEW_MS,
    silentMs: LEASE_MS,
  });
  // The lock is ours, so it is over, whatever its heartbeat says.
  if (seat.last !== null) await register.forget(seat.last.id);
  const ours = { key, scheduler };
  await seat.sit({ id, host, pid: process.pid, ...ours });
  await refuseStrangers(register, seats, ours);
  const duties = await openDuties(db, log, { holder: id, leaseMs: LEASE_MS, renewMs: RENEW_MS });
  return {
    duties,
    register,
    enter: async (url) => {
      await register.enter(url);
      // Another may have come in at the same moment.
      await refuseStrangers(register, seats, ours);
    },
    [Symbol.asyncDispose]: async () => {
      await duties[Symbol.asyncDispose]();
      await register[Symbol.asyncDispose]();
    },
  };
}

async function refuseStrangers(
  register: Register,
  seats: Seats,
  { key, scheduler }: Pick<Sitter, "key" | "scheduler">,
): Promise<void> {
  const sitters = await seats.sitters();
  for (const other of await register.list()) {
    if (!other.is_alive) continue;
    const sitter = sitters.find((each) => each.id === other.id);
    const where = `${other.url} on ${other.host} (${other.id})`;
    if (sitter === undefined) {
      throw new Problem(
        "conflict",
        `DATABASE_URL: the orchestrator ${where} uses this database with another data folder: ` +
          "give both one AUTOCODE_HOME, on a file system that they share. If it was killed a " +
          "moment ago, try again in some seconds",
      );
    }
    if (sitter.key !== key) {
      throw new Problem(
        "conflict",
        `The orchestrator ${where} keeps its secrets elsewhere (it signs with another key): ` +
          "give both the same VAULT_ADDR, or neither",
      );
    }
    if (sitter.scheduler !== scheduler) {
      throw new Problem(
        "conflict",
        `The orchestrator ${where} places trials with ${sitter.scheduler}, this one with ` +
          `${scheduler}: each would take the other's for lost. Give both one AUTOCODE_SCHEDULER`,
      );
    }
  }
}

/** What `autocode doctor` says: who there is, and who leads what. */
export async function describeOrchestrators(register: Register): Promise<Finding[]> {
  return (await register.list()).map((each): Finding => {
    const { id, url, host, version, is_this: isThis, is_alive: isAlive, duties } = each;
    const leads = duties.length === 0 ? "leads nothing now" : `leads ${duties.join(", ")}`;
    const who = `${id}${isThis ? " (this one)" : ""}, ${version} at ${url} on ${host}`;
    const common = { part: "orchestrator", next_step: null };
    if (isAlive) return { ...common, status: "ok", detail: `${who}: ${leads}` };
    const since = each.heartbeat_at.slice(0, 19);
    return { ...common, status: "warn", detail: `${who}: silent since ${since}Z` };
  });
}

/** Where an orchestrator listens. */
export interface Published {
  url: string;
  gatewayUrl: string;
  /** Undefined while there is no egress proxy. */
  egressUrl: string | undefined;
}

/**
 * Issues the command line's token and writes it down with our addresses, for this seat. Tokens of
 * other seats stay good.
 */
export async function publishEndpoint(
  { seats }: Place,
  layout: Layout,
  access: Pick<Access, "issueCliToken">,
  { url, gatewayUrl, egressUrl }: Published,
): Promise<string> {
  await mkdir(layout.configs, { recursive: true, mode: 0o700 });
  return seats.alone(async () => {
    const kept: string[] = [];
    for (const name of await readdir(layout.configs)) {
      const path = join(layout.configs, name);
      if (!/^endpoint(-\d+)?[.]json$/.test(name) || path === layout.endpoint) continue;
      const written = await readFile(path, "utf8")
        .then(JSON.parse)
        .catch(() => null);
      if (typeof written?.token === "string") kept.push(written.token);
    }
    const token = await access.issueCliToken(kept);
    const endpoint = { url, gateway_url: gatewayUrl, egress_url: egressUrl, token };
    await writeFile(layout.endpoint, `${JSON.stringify(endpoint)}\n`, { mode: 0o600 });
    return token;
  });
}
