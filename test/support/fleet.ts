/**
 * A fleet under test: its scheduler and registry over a real database, behind the real API, and
 * hosts that are processes of their own. Of the API it has the hosts' routes and their guard.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TypeBoxValidatorCompiler } from "@fastify/type-provider-typebox";
import { sql } from "drizzle-orm";
import Fastify, { type FastifyPluginAsync } from "fastify";
import { guard } from "../../orchestrator/api/auth.ts";
import { replyWithProblem } from "../../orchestrator/api/problem-reply.ts";
import { hostRoutes } from "../../orchestrator/api/routes/hosts.ts";
import type { Services } from "../../orchestrator/api/services.ts";
import type { Clock } from "../../orchestrator/runtime/clock.ts";
import { systemClock } from "../../orchestrator/runtime/clock.ts";
import { type AllocationId, createIds } from "../../orchestrator/runtime/ids.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { systemRandom } from "../../orchestrator/runtime/random.ts";
import { type FleetScheduler, openFleetScheduler } from "../../orchestrator/scheduler/fleet.ts";
import { createOutagesTask } from "../../orchestrator/workers/outages.ts";
import { createRegistry } from "../../orchestrator/workers/postgres.ts";
import { createWorkers } from "../../orchestrator/workers/view.ts";
import type { Hosts } from "../../orchestrator/workers/workers.ts";
import { openTestDatabase } from "./database.ts";
import { eventually } from "./eventually.ts";

export type TestFleet = Awaited<ReturnType<typeof openTestFleet>>;

export interface TestHost {
  process: ChildProcess;
  /** Its state folder. */
  dir: string;
  output(): string;
  /** SIGTERM, and its exit status. */
  leave(): Promise<number | null>;
}

const log = createLog("silent");

export async function openTestFleet({
  leaseMs = 30_000,
  clock = systemClock,
  agentsOf = () => [],
}: {
  leaseMs?: number;
  /** Of whatever the fleet reads no database for. */
  clock?: Clock;
  agentsOf?: (pool: string) => readonly string[];
} = {}) {
  const folder = await mkdtemp(join(tmpdir(), "autocode-fleet-"));
  const db = await openTestDatabase();
  // Allocations of no trial: what belongs to a trial is its own tests' affair.
  await db.sql.execute(sql`alter table placement drop constraint placement_allocation_id_fkey`);
  const ids = createIds(clock, systemRandom);
  const registry = createRegistry(db, { ids, random: systemRandom }, { leaseMs, agentsOf });
  const tokens = new Map<AllocationId, string>();
  const issueEnrolment = async (id: AllocationId) => tokens.get(id) ?? `complete:${id}`;
  const fleet = await openFleetScheduler(
    { db, registry, issueEnrolment, random: systemRandom, log },
    { leaseMs },
  );
  const workers = createWorkers({ db, scheduler: fleet, registry, clock });
  const { sync, receiveLog } = fleet;
  const hosts = { ...registry, sync, receiveLog };
  const api = hostApi(hosts);
  const url = await api.listen({ port: 0, host: "127.0.0.1" });
  const started: ChildProcess[] = [];
  const restarted: { close(): Promise<void> }[] = [];
  // What a worker does is in its token, which the fleet makes itself.
  const scheduler: FleetScheduler = {
    ...fleet,
    place: async (placement) => {
      tokens.set(placement.allocationId, placement.enrolmentToken);
      await fleet.place(placement);
    },
  };
  return {
    ...{ db, registry, scheduler, workers, url, folder, hosts, tokens },
    outages: createOutagesTask(db, log, { leaseMs }),
    startHost,
    joinToken,
    starts,
    restartApi,
    [Symbol.asyncDispose]: dispose,
  };

  async function joinToken(pool = "default", uses = 1): Promise<string> {
    return (await registry.issueJoinToken({ pool, uses, ttl_ms: 60_000 })).token;
  }

  /** A host that has joined. */
  async function startHost(
    name: string,
    { env = {}, token }: { env?: Record<string, string>; token?: string | null } = {},
  ): Promise<TestHost> {
    const dir = join(folder, name);
    const given = token === undefined ? await joinToken() : token;
    const child = spawn(process.execPath, [join(import.meta.dirname, "fleet-host.ts"), folder], {
      stdio: ["ignore", "ignore", "pipe"],
      env: {
        PATH: process.env["PATH"],
        AUTOCODE_API_URL: url,
        ...(given === null ? {} : { AUTOCODE_JOIN_TOKEN: given }),
        AUTOCODE_WORKER_NAME: name,
        AUTOCODE_WORKER_SLOTS: "2",
        AUTOCODE_WORKER_DIR: dir,
        ...env,
      },
    });
    started.push(child);
    let output = "";
    child.stderr?.on("data", (bytes: Buffer) => {
      output += bytes;
    });
    const hasJoined = () => output.includes('"joined"') || child.exitCode !== null;
    await eventually(hasJoined, Boolean, 30_000);
    return { process: child, dir, output: () => output, leave };

    async function leave(): Promise<number | null> {
      child.kill("SIGTERM");
      await eventually(() => child.exitCode !== null, Boolean, 30_000);
      return child.exitCode;
    }
  }

  /** The same address, after a time without anybody there. */
  async function restartApi(awayMs: number): Promise<void> {
    await api.close();
    await new Promise((resolve) => setTimeout(resolve, awayMs));
    const again = hostApi(hosts);
    await again.listen({ port: Number(new URL(url).port), host: "127.0.0.1" });
    restarted.push(again);
  }

  /** How often a worker was started for it, on whichever host. */
  function starts(id: AllocationId): number {
    const path = join(folder, `${id}.starts`);
    if (!existsSync(path)) return 0;
    return readFileSync(path, "utf8").trim().split("\n").filter(Boolean).length;
  }

  async function dispose(): Promise<void> {
    for (const child of started) {
      child.kill("SIGCONT");
      child.kill("SIGKILL");
    }
    await api.close();
    for (const each of restarted) await each.close();
    await fleet[Symbol.asyncDispose]();
    await db[Symbol.asyncDispose]();
    await endWorkers(folder);
    await rm(folder, { recursive: true, force: true });
  }
}

/** The hosts' routes, guarded and answering as the whole API does. */
function hostApi(hosts: Hosts) {
  const api = Fastify({ forceCloseConnections: true });
  api.setValidatorCompiler(TypeBoxValidatorCompiler);
  api.setErrorHandler(replyWithProblem);
  const routes: FastifyPluginAsync = async (guarded) => {
    const nobody = async () => {
      throw new Error("not asked here");
    };
    const access = { authenticate: async () => null } as unknown as Services["access"];
    const workerSessions = { authenticate: nobody } as unknown as Services["workerSessions"];
    guard(guarded, { access, workerSessions, hosts }, []);
    const orchestrators = { list: async () => [], urls: () => [] };
    await guarded.register(hostRoutes({ hosts, orchestrators }), { prefix: "/api/v1/host" });
  };
  void api.register(routes);
  return api;
}

/** Workers outlive their host: those whose notes are in the folder are ended by their numbers. */
async function endWorkers(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!name.endsWith(".starts")) continue;
    const pids = (await readFile(join(folder, name), "utf8")).trim().split("\n").map(Number);
    for (const pid of pids) {
      const command = await readFile(`/proc/${pid}/cmdline`, "latin1").catch(() => "");
      if (command.includes(folder)) process.kill(pid, "SIGKILL");
    }
  }
}
