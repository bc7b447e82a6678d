/**
 * A coding-agent CLI that does what its argument says: a JSON array of steps. It prints one JSON
 * line for each thing it says, as real ones do.
 */
import { spawn } from "node:child_process";
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export type FakeStep =
  | { readonly write: string; readonly content: string }
  | { readonly remove: string }
  | { readonly link: string; readonly to: string }
  | { readonly run: string }
  | { readonly say: string }
  | { readonly plain: string }
  | { readonly sayEnv: readonly string[] }
  | { readonly sayUser: true }
  /** Leaves a process in a session of its own; its number is said. */
  | { readonly survivor: "marked" | "unmarked" }
  | { readonly connect: string }
  | { readonly ignoreTerm: true }
  | { readonly sleepMs: number }
  | { readonly exit: number };

if (process.argv[1] === import.meta.filename) {
  for (const step of JSON.parse(process.argv[2] ?? "[]") as FakeStep[]) await take(step);
}

async function take(step: FakeStep): Promise<void> {
  if ("write" in step) {
    mkdirSync(dirname(step.write), { recursive: true });
    writeFileSync(step.write, step.content);
  } else if ("remove" in step) rmSync(step.remove, { recursive: true });
  else if ("link" in step) symlinkSync(step.to, step.link);
  else if ("run" in step) await run("/bin/sh", ["-c", step.run]);
  else if ("say" in step) say(step.say);
  else if ("plain" in step) process.stdout.write(`${step.plain}\n`);
  else if ("sayEnv" in step) {
    say(JSON.stringify(Object.fromEntries(step.sayEnv.map((name) => [name, process.env[name]]))));
  } else if ("sayUser" in step) say(`user ${process.getuid?.()}`);
  else if ("survivor" in step) say(`survivor ${survivor(step.survivor)}`);
  else if ("connect" in step) await connect(step.connect);
  else if ("ignoreTerm" in step) process.on("SIGTERM", () => {});
  else if ("sleepMs" in step) await sleep(step.sleepMs);
  else process.exit(step.exit);
}

function say(text: string): void {
  process.stdout.write(`${JSON.stringify({ type: "message", text })}\n`);
}

function survivor(kind: "marked" | "unmarked"): number {
  const command = "trap '' TERM HUP; exec sleep 600";
  const child = spawn("/bin/sh", ["-c", command], {
    detached: true,
    stdio: "ignore",
    env: kind === "marked" ? process.env : {},
  });
  child.unref();
  return child.pid ?? 0;
}

function run(file: string, args: string[]): Promise<void> {
  return new Promise((resolve) => {
    spawn(file, args, { stdio: "inherit" }).once("close", () => resolve());
  });
}

/** A CONNECT through the proxy that the environment names, as telemetry would do it. */
function connect(host: string): Promise<void> {
  const proxy = new URL(process.env["HTTPS_PROXY"] ?? "http://127.0.0.1:9");
  return new Promise((resolve) => {
    const asked = request({
      host: proxy.hostname,
      port: proxy.port,
      method: "CONNECT",
      path: host,
    });
    asked.once("connect", (response) => {
      say(`${host} ${response.statusCode}`);
      resolve();
    });
    asked.once("error", () => resolve());
    asked.end();
  });
}
