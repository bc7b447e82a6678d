/** Runs an installer's program to its end. */
import { spawn } from "node:child_process";

/** @throws Error with the program's last words. */
export function run(file: string, args: readonly string[], cwd?: string): Promise<void> {
  const child = spawn(file, args, { cwd, stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (bytes: Buffer) => {
      said = (said + bytes).slice(-500);
    });
  }
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (exit) => {
      if (exit === 0) resolve();
      else reject(new Error(`${file} ended with ${exit}: ${said.trim()}`));
    });
  });
}
