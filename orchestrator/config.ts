/**
 * The installation's configuration: the environment, read here and nowhere else, checked whole,
 * frozen, passed down. Setting an ecosystem's own variable switches its port to the real engine.
 */
import { statSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join, resolve } from "node:path";
import {
  type EgressConfig,
  type ElasticsearchConfig,
  readEgress,
  readElasticsearch,
} from "./config-egress.ts";
import {
  type NomadConfig,
  type Reader,
  readNomad,
  readScheduler,
  readSecrets,
  type SchedulerName,
  type SecretsConfig,
} from "./config-engines.ts";
import { type FleetConfig, readFleet } from "./config-fleet.ts";
import { readServing, type ServingConfig } from "./config-serving.ts";
import type { LogLevel } from "./runtime/log.ts";

export interface ProviderConfig {
  /** `vllm-…` serves one side of pairs, and goes before `vllm` there. */
  name: "openai" | "anthropic" | "vllm" | "vllm-normal" | "vllm-thinking";
  baseUrl: string;
  apiKey: string | null;
}

export interface Config {
  home: string;
  host: string;
  /** 0: any free port. */
  port: number;
  /** Where workers of other machines reach this API; null: where it listens. */
  apiUrl: string | null;
  gatewayPort: number;
  /** Where workers reach gateways that run as processes of their own: we then start none. */
  gatewayUrl: string | null;
  /** Of a gateway's own process: its metrics and its health, on loopback. 0: any free port. */
  gatewayMetricsPort: number;
  /** How long a gateway that is told to stop lets running calls end. */
  gatewayGraceMs: number;
  /** What limits a virtual key, on each gateway for itself; 0: nothing does. */
  keyRequestsPerMinute: number;
  keyTokensPerMinute: number;
  /** Calls of one key at a time. */
  keyCallsAtOnce: number;
  /** How often a running trial's work is kept. */
  checkpointEveryMs: number;
  /** Of one checkpoint's contents together. */
  checkpointBytes: number;
  /** How many a trial keeps where its project's file does not say. */
  checkpointsKept: number;
  databaseUrl: string | null;
  secrets: SecretsConfig;
  logLevel: LogLevel;
  slots: number;
  scheduler: SchedulerName;
  /** Null unless Nomad is the scheduler. */
  nomad: NomadConfig | null;
  fleet: FleetConfig;
  serving: ServingConfig;
  egress: EgressConfig;
  /** Null: flow records lie in the database. */
  elasticsearch: ElasticsearchConfig | null;
  isFirstRunExample: boolean;
  /** What the scripted model plays; the examples' scripts unless told otherwise. */
  scriptsDir: string;
  providers: readonly ProviderConfig[];
  /** A variable that a project's `api_key_env` names: those that end in _API_KEY alone. */
  readApiKey: (name: string) => string | null;
  /** What a worker-agent gets of our environment: no secret is among it. */
  workerEnv: Readonly<Record<string, string>>;
  isRoot: boolean;
}

export const PORT_DEFAULT = 7700;
/** Where the providers themselves are. */
export const HOSTED = {
  openai: "https://api.openai.com/v1",
  anthropic: "https://api.anthropic.com",
} as const;
const SYSTEM_HOME = "/var/lib/autocode";
const EXAMPLE_SCRIPTS = join(import.meta.dirname, "../examples/scripts");
const LOG_LEVELS = ["silent", "error", "warn", "info", "debug"] as const;

/**
 * A tool's own settings that an installer on a worker needs (registries, proxies, authorities), and
 * what an allocation may take of its host, and where it keeps what Node compiled.
 */
const WORKER_VARIABLE =
  /^(PATH|LANG|LC_\w+|TZ|TMPDIR|HOME|(NPM|npm)_config_\w+|PIP_\w+|UV_\w+|(http|https|no|all)_proxy|(HTTP|HTTPS|NO|ALL)_PROXY|SSL_CERT_FILE|SSL_CERT_DIR|NODE_EXTRA_CA_CERTS|REQUESTS_CA_BUNDLE|NODE_COMPILE_CACHE|AUTOCODE_LIMIT_[A-Z_]+)$/;
const SECRET_VARIABLE = /auth|token|password|secret|_(key|otp)$/i;

/** One line for a person, naming each variable that is wrong and how to mend it. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

/**
 * `.autocode` in the checkout. As root in a folder that others cannot enter (a checkout under
 * /root), the database's and the agents' users could not reach it: then the system's place.
 */
function defaultHome(cwd: string): string {
  if (process.getuid?.() !== 0) return join(cwd, ".autocode");
  for (let folder = cwd; ; folder = dirname(folder)) {
    if ((statSync(folder).mode & 0o001) === 0) return SYSTEM_HOME;
    if (folder === dirname(folder)) return join(cwd, ".autocode");
  }
}

/** @throws ConfigError naming every fault at once. */
export function readConfig(
  env: Readonly<Record<string, string | undefined>> = process.env,
  cwd: string = process.cwd(),
): Config {
  const faults: string[] = [];
  const read: Reader = {
    text,
    integer,
    address,
    oneOf,
    fault: (message) => void faults.push(message),
  };
  const scheduler = readScheduler(read);
  const config: Config = {
    home: resolve(cwd, text("AUTOCODE_HOME") ?? defaultHome(cwd)),
    host: text("AUTOCODE_HOST") ?? "127.0.0.1",
    port: integer("AUTOCODE_PORT", PORT_DEFAULT, 0, 65_535),
    apiUrl: address("AUTOCODE_API_URL", /^https?:\/\//),
    gatewayPort: integer("AUTOCODE_GATEWAY_PORT", 0, 0, 65_535),
    gatewayUrl: address("AUTOCODE_GATEWAY_URL", /^https?:\/\//),
    gatewayMetricsPort: integer("AUTOCODE_GATEWAY_METRICS_PORT", 0, 0, 65_535),
    gatewayGraceMs: integer("AUTOCODE_GATEWAY_GRACE_MS", 30_000, 0, 3_600_000),
    keyRequestsPerMinute: integer("AUTOCODE_KEY_REQUESTS_PER_MINUTE", 0, 0, 1_000_000),
    keyTokensPerMinute: integer("AUTOCODE_KEY_TOKENS_PER_MINUTE", 0, 0, 1_000_000_000),
    keyCallsAtOnce: integer("AUTOCODE_KEY_CALLS_AT_ONCE", 32, 1, 10_000),
    checkpointEveryMs: integer("AUTOCODE_CHECKPOINT_EVERY_MS", 120_000, 1_000, 86_400_000),
    checkpointBytes: integer("AUTOCODE_CHECKPOINT_BYTES", 268_435_456, 1_048_576, 2 ** 40),
    checkpointsKept: integer("AUTOCODE_CHECKPOINTS_KEPT", 10, 1, 1_000),
    databaseUrl: address("DATABASE_URL", /^postgres(ql)?:\/\//),
    secrets: readSecrets(read, env),
    logLevel: oneOf("AUTOCODE_LOG_LEVEL", LOG_LEVELS, "info"),
    slots: integer("AUTOCODE_SLOTS", Math.max(2, availableParallelism()), 1, 1000),
    scheduler,
    nomad: readNomad(read, scheduler),
    fleet: readFleet(read),
    serving: readServing(read, env),
    egress: readEgress(read),
    elasticsearch: readElasticsearch(read),
    isFirstRunExample: oneOf("AUTOCODE_EXAMPLE", ["on", "off"], "on") === "on",
    scriptsDir: resolve(cwd, text("AUTOCODE_SCRIPTS") ?? EXAMPLE_SCRIPTS),
    providers: readProviders(),
    readApiKey: (name) => (name.endsWith("_API_KEY") ? (text(name) ?? null) : null),
    workerEnv: Object.fromEntries(
      Object.entries(env).filter(
        (entry): entry is [string, string] =>
          entry[1] !== undefined &&
          WORKER_VARIABLE.test(entry[0]) &&
          !SECRET_VARIABLE.test(entry[0]),
      ),
    ),
    isRoot: process.getuid?.() === 0,
  };
  if (faults.length > 0) throw new ConfigError(faults.join("; "));
  return Object.freeze(config);

  function readProviders(): ProviderConfig[] {
    const found: ProviderConfig[] = [];
    const openai = address("OPENAI_BASE_URL", /^https?:\/\//);
    const anthropic = address("ANTHROPIC_BASE_URL", /^https?:\/\//);
    const vllm = address("VLLM_BASE_URL", /^https?:\/\//);
    const openaiKey = text("OPENAI_API_KEY") ?? null;
    const anthropicKey = text("ANTHROPIC_API_KEY") ?? null;
    if (openai !== null || openaiKey !== null) {
      const baseUrl = openai ?? HOSTED.openai;
      found.push({ name: "openai", baseUrl, apiKey: openaiKey });
    }
    if (anthropic !== null || anthropicKey !== null) {
      const baseUrl = anthropic ?? HOSTED.anthropic;
      found.push({ name: "anthropic", baseUrl, apiKey: anthropicKey });
    }
    const sides = [
      ["vllm", vllm],
      ["vllm-normal", address("VLLM_NORMAL_BASE_URL", /^https?:\/\//)],
      ["vllm-thinking", address("VLLM_THINKING_BASE_URL", /^https?:\/\//)],
    ] as const;
    for (const [name, baseUrl] of sides) {
      if (baseUrl !== null) found.push({ name, baseUrl, apiKey: text("VLLM_API_KEY") ?? null });
    }
    return found;
  }

  function text(name: string): string | undefined {
    const value = env[name];
    return value === undefined || value === "" ? undefined : value;
  }

  function integer(name: string, fallback: number, min: number, max: number): number {
    const value = text(name);
    if (value === undefined) return fallback;
    const number = Number(value);
    if (Number.isInteger(number) && number >= min && number <= max) return number;
    faults.push(`${name}: "${value}" must be a whole number from ${min} to ${max}`);
    return fallback;
  }

  function oneOf<Choice extends string>(
    name: string,
    choices: readonly Choice[],
    fallback: Choice,
  ): Choice {
    const value = text(name);
    if (value === undefined) return fallback;
    const found = choices.find((choice) => choice === value);
    if (found === undefined) faults.push(`${name}: "${value}" must be ${choices.join(", ")}`);
    return found ?? fallback;
  }

  /** The value is left out of the message: an address may hold a password. */
  function address(name: string, pattern: RegExp): string | null {
    const value = text(name);
    if (value === undefined) return null;
    if (!pattern.test(value) || !URL.canParse(value)) {
      faults.push(
        `${name}: must be an address such as ${pattern.source.replaceAll(/[\\^()?]/g, "")}`,
      );
    }
    return value;
  }
}
