/** The environment of the fleet scheduler, read with `config.ts`'s readers. Pure. */
import { Type } from "typebox";
import { Value } from "typebox/value";
import type { Reader } from "./config-engines.ts";

export interface FleetConfig {
  /** A worker that has been silent for longer is given up. */
  leaseMs: number;
  pools: Readonly<Record<string, PoolConfig>>;
  /** Null: nobody is asked for hosts. */
  autoscale: AutoscaleConfig | null;
}

export interface PoolConfig {
  /** Installed and checked on a host before it joins. */
  agents?: string[];
  /** Free slots to keep for what comes next. */
  warm_slots?: number;
}

export interface AutoscaleConfig {
  url: string | null;
  command: string | null;
  secret: string | null;
  backlogMs: number;
  idleMs: number;
  cooldownMs: number;
}

const LEASE_MS = 30_000;
const BACKLOG_MS = 60_000;
const IDLE_MS = 600_000;
const COOLDOWN_MS = 300_000;
const DAY_MS = 86_400_000;

const Pools = Type.Record(
  Type.String({ pattern: "^[a-z0-9][a-z0-9-]{0,62}$" }),
  Type.Object(
    {
      agents: Type.Optional(Type.Array(Type.String({ maxLength: 100 }), { maxItems: 64 })),
      warm_slots: Type.Optional(Type.Integer({ minimum: 0, maximum: 100_000 })),
    },
    { additionalProperties: false },
  ),
  { additionalProperties: false },
);

export function readFleet(read: Reader): FleetConfig {
  return {
    leaseMs: integer(read, "AUTOCODE_WORKER_LEASE_MS", LEASE_MS, { min: 500, max: 3_600_000 }),
    pools: readPools(read),
    autoscale: readAutoscale(read),
  };
}

function readPools({ text, fault }: Reader): FleetConfig["pools"] {
  const written = text("AUTOCODE_POOLS");
  if (written === undefined) return {};
  try {
    const pools: unknown = JSON.parse(written);
    if (Value.Check(Pools, pools)) return pools;
    const [first] = Value.Errors(Pools, pools);
    fault(`AUTOCODE_POOLS: ${first?.instancePath || "it"} ${first?.message}; such as ${EXAMPLE}`);
  } catch {
    fault(`AUTOCODE_POOLS: is no JSON; such as ${EXAMPLE}`);
  }
  return {};
}

const EXAMPLE = '{"default": {"agents": ["codex"], "warm_slots": 2}}';

function readAutoscale(read: Reader): AutoscaleConfig | null {
  const url = read.address("AUTOCODE_AUTOSCALE_URL", /^https?:\/\//);
  const command = read.text("AUTOCODE_AUTOSCALE_COMMAND") ?? null;
  if (url !== null && command !== null) {
    read.fault("AUTOCODE_AUTOSCALE_URL and AUTOCODE_AUTOSCALE_COMMAND: set one of them");
  }
  if (command !== null && !command.startsWith("/")) {
    read.fault("AUTOCODE_AUTOSCALE_COMMAND: must be a program's whole path, without arguments");
  }
  if (url === null && command === null) return null;
  const time = (name: string, fallback: number) =>
    integer(read, `AUTOCODE_AUTOSCALE_${name}_MS`, fallback, { min: 0, max: DAY_MS });
  return {
    url,
    command,
    secret: read.text("AUTOCODE_AUTOSCALE_SECRET") ?? null,
    backlogMs: time("AFTER", BACKLOG_MS),
    idleMs: time("IDLE", IDLE_MS),
    cooldownMs: time("COOLDOWN", COOLDOWN_MS),
  };
}

function integer(
  { text, fault }: Reader,
  name: string,
  fallback: number,
  { min, max }: { min: number; max: number },
): number {
  const value = text(name);
  if (value === undefined) return fallback;
  const number = Number(value);
  if (Number.isInteger(number) && number >= min && number <= max) return number;
  fault(`${name}: "${value}" must be a whole number from ${min} to ${max}`);
  return fallback;
}
