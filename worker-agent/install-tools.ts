/** The programs that install packages: how they are found and run. */
import { spawn } from "node:child_process";
import { stat } from "node:fs/promises";
import { delimiter, dirname } from "node:path";
import { createInterface } from "node:readline";
import { InstallError } from "./install-error.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

const KILL_AFTER_MS = 5_000;
const TAIL_LINES = 40;
/** Aider 0.86.2 allows these. */
const PYTHON_MINORS = [12, 11, 10];
const PYTHON_NAMES = [
  ...PYTHON_MINORS.map((minor) => `python3.${minor}`),
  "python3",
  "/usr/bin/python3",
];

interface RunOptions {
  readonly cwd: string;
  readonly env: Environment;
  readonly onLine?: (line: string) => void;
  readonly signal?: AbortSignal;
}

/** A PATH on which our own Node comes first. */
export function pathWithNode(env: Environment): string {
  const rest = env["PATH"] ?? "/usr/local/bin:/usr/bin:/bin";
  return [dirname(process.execPath), rest].join(delimiter);
}

/**
 * Runs a program to its end and answers its standard output. An abort ends its process group.
 *
 * @throws InstallError when it is missing or fails, with its last error line.
 */
export async function runTool(
  file: string,
  args: readonly string[],
  { cwd, env, onLine, signal }: RunOptions,
): Promise<string> {
  signal?.throwIfAborted();
  const child = spawn(file, args, {
    cwd,
    env,
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const tail: string[] = [];
  let stdout = "";
  createInterface({ input: child.stdout }).on("line", (line) => {
    stdout += `${line}\n`;
    seen(line);
  });
  createInterface({ input: child.stderr }).on("line", seen);
  let killTimer: NodeJS.Timeout | undefined;
  const abort = () => {
    killGroup("SIGTERM");
    killTimer = setTimeout(() => killGroup("SIGKILL"), KILL_AFTER_MS);
  };
  signal?.addEventListener("abort", abort, { once: true });
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", resolve);
    });
    signal?.throwIfAborted();
    if (code !== 0)
      throw new InstallError(`${file} ${args[0] ?? ""} failed: ${reason(tail, code)}`);
    return stdout;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    throw new InstallError(`${file} is missing: install it, then try again`, { cause: error });
  } finally {
    clearTimeout(killTimer);
    signal?.removeEventListener("abort", abort);
  }

  function seen(line: string): void {
    onLine?.(line);
    tail.push(line);
    if (tail.length > TAIL_LINES) tail.shift();
  }

  function killGroup(name: NodeJS.Signals): void {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, name);
    } catch {
      // It ended by itself.
    }
  }
}

/** The line that says most: the first that calls itself an error, else the last. */
function reason(tail: readonly string[], code: number | null): string {
  const isError = (line: string) => /^(npm error|error:)/i.test(line) && !/ code E/.test(line);
  const line = tail.find(isError) ?? tail.findLast((text) => text.trim() !== "");
  return line?.trim().slice(0, 500) ?? `exit ${code}`;
}

/**
 * A Python that Aider runs on and that can make virtual environments. One that every user can
 * reach is preferred: a version manager's in a private home folder fails for the agent's user.
 *
 * @throws InstallError when there is none, saying what to install.
 */
export async function findPython(
  env: Environment,
  signal?: AbortSignal,
  names: readonly string[] = PYTHON_NAMES,
): Promise<string> {
  const script =
    "import sys, ensurepip, venv; print(sys.version_info[1]); print(sys.executable); print(sys.base_prefix)";
  let fallback: string | null = null;
  for (const name of names) {
    try {
      const options = { cwd: "/", env, ...(signal && { signal }) };
      const said = await runTool(name, ["-c", script], options);
      const [minor, executable = "", prefix = ""] = said.trim().split("\n");
      if (!PYTHON_MINORS.includes(Number(minor))) continue;
      if ((await isReachableByAll(executable)) && (await isReachableByAll(prefix)))
        return executable;
      fallback ??= executable;
    } catch (error) {
      if (!(error instanceof InstallError)) throw error;
    }
  }
  if (fallback !== null) return fallback;
  throw new InstallError(
    "Aider needs Python 3.10, 3.11 or 3.12 with its venv module: " +
      "install it (Debian, Ubuntu: apt-get install python3-venv), then try again",
  );
}

async function isReachableByAll(path: string): Promise<boolean> {
  for (let dir = path; ; dir = dirname(dir)) {
    if (((await stat(dir)).mode & 0o001) === 0) return false;
    if (dir === dirname(dir)) return true;
  }
}
