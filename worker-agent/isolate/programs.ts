/** The host's own programs that close a network: where they are, and running one to its end. */
import { spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { join } from "node:path";

/** Never the PATH of an agent: these run with our rights. */
const FOLDERS = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
const ENDED_AFTER_MS = 10_000;
const COMPLAINT_MAX = 300;

/** What they are given of an environment. */
export const CLEAN_ENV = { PATH: FOLDERS.join(":"), LC_ALL: "C" };

/** Their paths, by name. @throws Error naming those that are not there, and their packages. */
export function findPrograms<Name extends string>(
  packages: Readonly<Record<Name, string>>,
): Record<Name, string> {
  const found: Partial<Record<Name, string>> = {};
  const missing: string[] = [];
  for (const name of Object.keys(packages) as Name[]) {
    const path = FOLDERS.map((folder) => join(folder, name)).find(canRun);
    if (path === undefined) missing.push(`${name} (package ${packages[name]})`);
    else found[name] = path;
  }
  if (missing.length > 0) throw new Error(`${missing.join(", ")} not installed`);
  return found as Record<Name, string>;
}

function canRun(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

export interface ProgramRun {
  readonly input?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly uid?: number;
  readonly gid?: number;
}

/** What it printed. @throws Error with its own words when it fails, or takes too long. */
export function runProgram(
  file: string,
  args: readonly string[],
  { input = "", ...options }: ProgramRun = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, [...args], {
      env: CLEAN_ENV,
      stdio: ["pipe", "pipe", "pipe"],
      timeout: ENDED_AFTER_MS,
      killSignal: "SIGKILL",
      ...options,
    });
    const output: Buffer[] = [];
    let complaint = "";
    child.stdout.on("data", (bytes: Buffer) => output.push(bytes));
    child.stderr.on("data", (bytes: Buffer) => {
      complaint = `${complaint}${bytes}`.slice(-COMPLAINT_MAX);
    });
    child.stdin.on("error", () => child.stdin.destroy());
    child.stdin.end(input);
    child.once("error", reject);
    child.once("close", (status, signal) => {
      if (status === 0) return resolve(Buffer.concat(output).toString("utf8"));
      const name = file.split("/").at(-1);
      const how = signal === null ? `ended with ${status}` : `ended by ${signal}`;
      reject(new Error(`${name} ${how}: ${complaint.trim().replaceAll(/\s+/g, " ")}`));
    });
  });
}
