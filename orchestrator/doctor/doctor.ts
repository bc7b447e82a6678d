/** Which adapter of each port is in force, what is missing, and the next step for it. */
import { execFile } from "node:child_process";
import { sql } from "drizzle-orm";
import type { AgentInstaller } from "../agents/installed.ts";
import type { Services } from "../api/services.ts";
import type { LedgerStatus } from "../contract/ledger.ts";
import type { Finding, PairStatus } from "../contract/system.ts";
import type { Database } from "../db/database.ts";
import { Problem } from "../problem.ts";
import type { Pairs } from "../trials/pairs.ts";

export interface DoctorDependencies {
  db: Database;
  config: { home: string; isRoot: boolean; databaseUrl: string | null };
  describeScheduler(): Promise<Omit<Finding, "part">>;
  installer: AgentInstaller;
  pairs: Pairs;
  gateway: { metrics(): Promise<string> };
  journal: { status(): Promise<LedgerStatus> };
  secrets: { name: string };
  /** As root: the folder that the slots' users cannot pass through, null when they can. */
  closedToAgents(): Promise<string | null>;
  /** What this machine gives a trial that runs here, tried; null where no trial does. */
  probeIsolation(): Promise<{ kind: "namespace" | "sandbox" | "none"; detail: string } | null>;
}

const READY_TIMEOUT_MS = 3_000;

export function createDoctor(
  dependencies: DoctorDependencies,
): Pick<Services, "doctor" | "readiness" | "metrics"> {
  const { db, config, describeScheduler, installer, pairs, gateway } = dependencies;
  const { closedToAgents, journal, probeIsolation, secrets } = dependencies;
  return { doctor, readiness, metrics };

  async function doctor(): Promise<Finding[]> {
    const git = await version("git");
    const python = await version("python3");
    const isolated = await probeIsolation();
    return [
      ok("node", `${process.version} at ${process.execPath}`),
      git === null
        ? missing("git", "not on PATH", "install git: every workspace is a clone")
        : ok("git", git),
      database(),
      await ledger(),
      { part: "scheduler", ...(await describeScheduler()) },
      await isolation(isolated),
      ok("data folder", config.home),
      ...(await Promise.all(installer.facts.map(({ name }) => agent(name, python)))),
      ...pairFindings(),
      ...(isolated?.kind === "none" ? await openEngines() : []),
    ];
  }

  /** Pairs that wait for the same thing are one finding. */
  function pairFindings(): Finding[] {
    const all = pairs.list(null);
    const waiting = Map.groupBy(
      all.filter((pair) => !pair.is_available),
      ({ detail }) => detail,
    );
    return [
      ...all
        .filter((pair) => pair.is_available)
        .flatMap((pair) => [ok(`pair ${pair.name}`, pair.detail), ...agentsOn(pair)]),
      ...[...waiting].map(([nextStep, same]) => {
        const names = same.map(({ name }) => name).join(", ");
        return warn("pairs", `not set up: ${names}`, nextStep);
      }),
    ];
  }

  function database(): Finding {
    const why = config.databaseUrl === null ? "DATABASE_URL is not set" : "DATABASE_URL is set";
    return ok("database", `${db.name} PostgreSQL ${db.version}; ${why}`);
  }

  async function ledger(): Promise<Finding> {
    const found = await journal.status().catch((error) => {
      if (error instanceof Problem && error.code === "secrets_sealed") return null;
      throw error;
    });
    if (found === null) {
      return warn("ledger", "not signed while the secrets cannot be opened", "see secrets");
    }
    const { sealed, unsealed, key, last_signed_at: signedAt } = found;
    const signed = signedAt === null ? "not signed yet" : `last signed ${signedAt.slice(0, 19)}Z`;
    return ok(
      "ledger",
      `${sealed} transfers sealed, ${unsealed} to be; ${signed} by ${key.fingerprint}, ` +
        `key in secrets (${secrets.name})`,
    );
  }

  /** Where an agent reaches every address, an engine of ours answers it, and nobody counts. */
  async function openEngines(): Promise<Finding[]> {
    const { rows: found } = await db.sql.execute(
      sql`select distinct pair from model_server where is_wanted order by pair`,
    );
    const pairs = (found as { pair: string }[]).map(({ pair }) => pair).join(", ");
    if (pairs === "") return [];
    const detail =
      `${pairs}: trials here are not isolated, so agents reach these engines past the gateway, ` +
      "outside of every budget; where models alternate they can also put them to sleep";
    return [warn("engines", detail, "install iproute2 and nftables, or bubblewrap")];
  }

  async function isolation(
    given: Awaited<ReturnType<DoctorDependencies["probeIsolation"]>>,
  ): Promise<Finding> {
    const network = given?.detail ?? "trials run on workers, which each say how they are isolated";
    if (given?.kind === "none" && !config.isRoot) {
      return warn(
        "isolation",
        "NONE between agents and autocode: agents run as this user, and can read the hidden " +
          `tests, other trials and the admin token in ${config.home}; ${network}`,
        "install bubblewrap, or start as root to give each slot a user of its own",
      );
    }
    const closed = await closedToAgents();
    if (closed === null) {
      const user = config.isRoot ? "a user of its own for each slot; " : "";
      const detail = `${user}${network}`;
      if (given?.kind !== "none") return ok("isolation", detail);
      return warn("isolation", detail, "install iproute2 and nftables, or bubblewrap");
    }
    return warn(
      "isolation",
      `NONE: agents and tests run as ROOT, since the slots' users cannot pass through ${closed}`,
      `chmod o+x ${closed}, or move Node and AUTOCODE_HOME to folders that others can pass`,
    );
  }

  async function agent(name: string, python: string | null): Promise<Finding> {
    const facts = installer.facts.find((known) => known.name === name);
    const installed = await installer.installedVersion(name);
    if (installed !== null) return ok(`agent ${name}`, installed);
    if (facts?.package_source === "pypi" && python === null) {
      return missing(
        `agent ${name}`,
        "not installed",
        "install Python 3.10 to 3.12 with venv first",
      );
    }
    return warn(`agent ${name}`, "not installed", `autocode agent install ${name}`);
  }

  async function readiness(): Promise<Record<string, string | null>> {
    return { database: await databaseReady() };
  }

  async function databaseReady(): Promise<string | null> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<string>((resolve) => {
      timer = setTimeout(() => resolve("no answer in time"), READY_TIMEOUT_MS);
    });
    const answer = db.sql.execute(sql`select 1`).then(
      () => null,
      () => "does not answer",
    );
    const first = await Promise.race([answer, late]);
    clearTimeout(timer);
    return first;
  }

  async function metrics(): Promise<string> {
    const { rows: found } = await db.sql.execute(
      sql`select state, count(*)::int as count from trial group by state order by state`,
    );
    const lines = (found as { state: string; count: number }[]).map(
      ({ state, count }) => `autocode_trial_states{state="${state}"} ${count}`,
    );
    const head = [
      "# HELP autocode_trial_states Trials by state",
      "# TYPE autocode_trial_states gauge",
    ];
    return `${[...head, ...lines].join("\n")}\n${await gateway.metrics()}`;
  }
}

/** Which agents do worse with a pair than they could; nothing where all are sound with it. */
function agentsOn({ name, agents }: PairStatus): Finding[] {
  if (agents.every(({ verdict }) => verdict === "sound")) return [];
  const same = Map.groupBy(agents, ({ verdict, reasons }) => {
    const why = reasons.map(({ detail }) => detail).join("; ");
    return JSON.stringify([verdict, why]);
  });
  const detail = [...same].map(([key, group]) => {
    const [verdict, why]: [string, string] = JSON.parse(key);
    const names = group.map(({ agent }) => agent).join(", ");
    return `${verdict}: ${names}${why === "" ? "" : ` (${why})`}`;
  });
  const part = `agents on ${name}`;
  if (agents.every(({ verdict }) => verdict !== "unsound")) return [ok(part, detail.join(". "))];
  return [warn(part, detail.join(". "), "choose another pair for the unsound: autocode model ls")];
}

function version(program: string): Promise<string | null> {
  return new Promise((resolve) => {
    execFile(program, ["--version"], { timeout: READY_TIMEOUT_MS }, (error, stdout) => {
      resolve(error === null ? (stdout.split("\n")[0] ?? program) : null);
    });
  });
}

function ok(part: string, detail: string): Finding {
  return { part, status: "ok", detail, next_step: null };
}

function warn(part: string, detail: string, next_step: string | null): Finding {
  return { part, status: "warn", detail, next_step };
}

function missing(part: string, detail: string, next_step: string): Finding {
  return { part, status: "missing", detail, next_step };
}
