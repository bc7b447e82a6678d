/** Runs the programs that check and build: an absent one is told apart from one that failed. */
import { spawn } from "node:child_process";
import { access } from "node:fs/promises";

export interface Ended {
  /** Null when a signal ended it. */
  exit: number | null;
  /** What it printed, both streams in the order they came. */
  output: string;
}

const OUTPUT_MAX = 200_000;
const GRACE_MS = 5_000;

/**
 * Runs a program to its end; null when there is no such program.
 *
 * @throws the signal's reason once it is aborted, when nothing of the program runs any more.
 */
export async function runTool(
  file: string,
  args: readonly string[],
  options: { cwd?: string; signal?: AbortSignal; onLine?: (line: string) => void } = {},
): Promise<Ended | null> {
  const { signal, onLine } = options;
  signal?.throwIfAborted();
  // A group of its own: what it starts ends with it, and a terminal's Ctrl-C is ours to pass on.
  const child = spawn(file, args, {
    cwd: options.cwd,
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8");
    stream.on("data", (text: string) => {
      output = (output + text).slice(-OUTPUT_MAX);
      const [last] = text
        .split(/[\r\n]+/)
        .filter((line) => line.trim() !== "")
        .slice(-1);
      if (last !== undefined) onLine?.(last.trim());
    });
  }
  const end = (name: NodeJS.Signals) => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, name);
    } catch {
      // It has ended: there is nobody to tell.
    }
  };
  let killing: NodeJS.Timeout | undefined;
  const abort = () => {
    end("SIGTERM");
    killing = setTimeout(end, GRACE_MS, "SIGKILL");
  };
  signal?.addEventListener("abort", abort, { once: true });
  try {
    const { promise, resolve, reject } = Promise.withResolvers<Ended | null>();
    child.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") resolve(null);
      else reject(error);
    });
    child.once("close", (exit) => resolve({ exit, output }));
    const ended = await promise;
    signal?.throwIfAborted();
    return ended;
  } finally {
    clearTimeout(killing);
    signal?.removeEventListener("abort", abort);
  }
}

/** The last lines that say what went wrong, on one line. */
export function lastWords(output: string, lineCount = 3): string {
  const lines = output.split(/[\r\n]+/).filter((line) => line.trim() !== "");
  return lines.slice(-lineCount).join("; ").slice(-500);
}

/** Whether there is a file or folder of this name. */
export async function isThere(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
