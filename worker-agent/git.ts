/**
 * Git, run so that nothing but its arguments decides what it does: no configuration of the host
 * or the user, no hooks, no prompts, no transport but files.
 */
import { spawn } from "node:child_process";
import { WorkspaceFault } from "./faults.ts";

/** Given on every command line, so that no repository's own configuration outranks it. */
const SAFE_CONFIG = [
  "core.hooksPath=/dev/null",
  "core.fsmonitor=false",
  "core.attributesFile=/dev/null",
  "core.excludesFile=/dev/null",
  "core.symlinks=true",
  "core.fileMode=true",
  "core.autocrlf=false",
  "core.quotePath=false",
  "protocol.allow=never",
  "protocol.file.allow=always",
  "protocol.ext.allow=never",
  "submodule.recurse=false",
  "fetch.recurseSubmodules=false",
  "fetch.fsckObjects=true",
  "commit.gpgSign=false",
  "diff.ignoreSubmodules=all",
  "gc.auto=0",
  "maintenance.auto=false",
  "advice.detachedHead=false",
].flatMap((setting) => ["-c", setting]);

const OUTPUT_BYTES_MAX = 512 * 1_048_576;

/** Runs git; what it printed. @throws WorkspaceFault unless its status is in `statuses`. */
export type Git = (args: readonly string[], options?: GitRun) => Promise<Buffer>;

export interface GitRun {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Uint8Array;
  readonly signal?: AbortSignal;
  /** Exit statuses that are no fault; 0 alone by default. */
  readonly statuses?: readonly number[];
}

/** Git with `home` (private and empty) for its own files. */
export function createGit(path: string, home: string): Git {
  const baseEnv = {
    PATH: path,
    HOME: home,
    LC_ALL: "C",
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_ATTR_NOSYSTEM: "1",
    GIT_NO_REPLACE_OBJECTS: "1",
    GIT_OPTIONAL_LOCKS: "0",
    GIT_TERMINAL_PROMPT: "0",
    GIT_ALLOW_PROTOCOL: "file",
    GIT_PAGER: "cat",
  };
  return run;

  async function run(args: readonly string[], options: GitRun = {}): Promise<Buffer> {
    const { cwd = home, env = {}, input, signal, statuses = [0] } = options;
    signal?.throwIfAborted();
    const child = spawn("git", [...SAFE_CONFIG, ...args], {
      cwd,
      env: { ...baseEnv, ...env },
      stdio: ["pipe", "pipe", "pipe"],
      ...(signal === undefined ? {} : { signal }),
    });
    const output: Buffer[] = [];
    let byteCount = 0;
    let complaint = "";
    child.stdout.on("data", (chunk: Buffer) => {
      byteCount += chunk.byteLength;
      if (byteCount > OUTPUT_BYTES_MAX) child.kill("SIGKILL");
      else output.push(chunk);
    });
    child.stderr.on("data", (chunk: Buffer) => {
      complaint = `${complaint}${chunk}`.slice(-2_000);
    });
    // A command that does not read its input to the end has failed for a reason of its own.
    child.stdin.on("error", () => child.stdin.destroy());
    child.stdin.end(input ?? "");

    const status = await new Promise<number | null>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", resolve);
    }).catch((cause: unknown) => {
      signal?.throwIfAborted();
      throw new WorkspaceFault("git could not be started: is it installed?", { cause });
    });
    signal?.throwIfAborted();
    if (status !== null && statuses.includes(status)) return Buffer.concat(output);
    const command = args.find((arg) => /^[a-z]+(-[a-z]+)*$/.test(arg)) ?? "";
    throw new WorkspaceFault(`git ${command} failed (${status}): ${complaint.trim()}`);
  }
}

/** The parts of an answer to a command with `-z`. */
export function splitNul(bytes: Buffer): string[] {
  return bytes
    .toString("utf8")
    .split("\0")
    .filter((part) => part !== "");
}
