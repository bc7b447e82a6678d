/**
 * What a host program is told: the only reader of its environment. The join token leaves the
 * environment when it is read, and no variable of ours reaches an allocation or an installer.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { availableParallelism, hostname } from "node:os";
import { join, resolve } from "node:path";
import { installEnvironment } from "../config.ts";
import { limitVariables } from "../limits.ts";

export interface HostConfig {
  /** Several with commas between them, where there are several orchestrators. */
  readonly apiUrl: string;
  /** Null where the host joined before: it has its worker token. */
  readonly joinToken: string | null;
  readonly name: string;
  /** Allocations at once. */
  readonly slots: number;
  /** Its worker token, the allocations' folders and the agents. */
  readonly dir: string;
  /** How long one that is told to go lets its allocations work on. */
  readonly drainMs: number;
  /** As root: the first of the user ids for agents, one a slot. Null: all run as we do. */
  readonly firstUid: number | null;
  /** Of installers and worker-agents: registry, proxy and certificate settings. */
  readonly env: Readonly<Record<string, string>>;
}

const NAME = /^[a-z0-9][a-z0-9.-]{0,62}$/;
const ROOT_DIR = "/var/lib/autocode-worker";
const DRAIN_MS = 600_000;
/** A block of each folder's own, beside those of the local scheduler. */
const UIDS = { first: 200_000_000, blocks: 100_000, slotsMax: 1_000 };

/** @throws Error naming each variable that is missing or malformed, and what to do. */
export function readHostConfig(
  env: Record<string, string | undefined> = process.env,
  { isRoot, cwd } = { isRoot: process.getuid?.() === 0, cwd: process.cwd() },
): HostConfig {
  const faults: string[] = [];
  const apiUrl = text("AUTOCODE_API_URL");
  if (!apiUrl.split(",").every((url) => /^https?:\/\//.test(url.trim()))) {
    faults.push(
      "AUTOCODE_API_URL: must be the orchestrator's address, http://host:port, or several " +
        "with commas",
    );
  }
  const name = text("AUTOCODE_WORKER_NAME") || nameOf(hostname());
  if (!NAME.test(name)) {
    faults.push(
      `AUTOCODE_WORKER_NAME: "${name}" must be up to 63 of a-z, 0-9, dot and dash, and begin ` +
        "with a letter or a digit",
    );
  }
  // systemd's own variables for LoadCredential= and StateDirectory=.
  const credentials = text("CREDENTIALS_DIRECTORY");
  const dir = resolve(
    cwd,
    text("AUTOCODE_WORKER_DIR") ||
      text("STATE_DIRECTORY") ||
      (isRoot ? ROOT_DIR : ".autocode-worker"),
  );
  const config: HostConfig = Object.freeze({
    apiUrl,
    joinToken: readJoinToken(),
    name,
    slots: integer("AUTOCODE_WORKER_SLOTS", availableParallelism(), 1, 1000),
    dir,
    drainMs: integer("AUTOCODE_DRAIN_MS", DRAIN_MS, 0, 86_400_000),
    firstUid: isRoot ? firstUid(dir) : null,
    env: { ...installEnvironment(env), ...limitVariables(env) },
  });
  if (faults.length > 0) throw new Error(faults.join("; "));
  return config;

  function readJoinToken(): string | null {
    const direct = text("AUTOCODE_JOIN_TOKEN");
    delete env["AUTOCODE_JOIN_TOKEN"];
    if (direct !== "") return direct;
    const named = text("AUTOCODE_JOIN_TOKEN_FILE");
    const path = named || (credentials === "" ? "" : join(credentials, "join_token"));
    if (path === "") return null;
    try {
      const found = readFileSync(path, "utf8").trim();
      return found === "" ? null : found;
    } catch (error) {
      // systemd's is optional: a host that joined needs it no more.
      if (named === "") return null;
      const { code } = error as NodeJS.ErrnoException;
      faults.push(`AUTOCODE_JOIN_TOKEN_FILE: ${path} cannot be read (${code})`);
      return null;
    }
  }

  function text(variable: string): string {
    return env[variable] ?? "";
  }

  function integer(variable: string, fallback: number, min: number, max: number): number {
    const value = text(variable);
    if (value === "") return fallback;
    const number = Number(value);
    if (Number.isInteger(number) && number >= min && number <= max) return number;
    faults.push(`${variable}: "${value}" must be a whole number from ${min} to ${max}`);
    return fallback;
  }
}

/** "Build-7.example" → "build-7.example"; a name that is none stays, to be told as a fault. */
function nameOf(host: string): string {
  return host.toLowerCase().slice(0, 63);
}

/** Two hosts on one machine must not take each other's agents for their own. */
function firstUid(dir: string): number {
  const block = createHash("sha256").update(dir).digest().readUInt32BE(0) % UIDS.blocks;
  return UIDS.first + block * UIDS.slotsMax;
}
