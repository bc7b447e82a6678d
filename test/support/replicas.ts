/**
 * Several orchestrators of one installation: one database, one home, a gateway beside them that
 * none of them takes along when it dies, and a provider that counts what it was asked.
 *
 * Invariant: when it is disposed of, no process runs that was started for its home.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { env } from "node:process";
import type { Orchestrator, OrchestratorList } from "../../orchestrator/contract/orchestrators.ts";
import { eventually } from "./eventually.ts";
import {
  cleanEnvironment,
  type Ended,
  openFolder,
  processesOf,
  ROOT,
  runToEnd,
} from "./installation.ts";

const START_MS = 90_000;

export interface Replica {
  readonly pid: number;
  readonly url: string;
  output(): string;
  /** SIGKILL: what it started runs on. */
  kill9(): Promise<void>;
  /** Ctrl-C; its exit status. */
  stop(): Promise<number | null>;
}

export type Replicas = Awaited<ReturnType<typeof openReplicas>>;

export interface ReplicasOptions {
  databaseUrl: string;
  /** What the provider plays. */
  scripts: Readonly<Record<string, string>>;
  /** On top of what every orchestrator gets. */
  env?: Readonly<Record<string, string>>;
  /** Installed agents, in place of those that tests are given. */
  agentsDir?: string;
}

/** A gateway and a provider that run; orchestrators are started by the test. */
export async function openReplicas(options: ReplicasOptions) {
  await using opening = new AsyncDisposableStack();
  const folder = opening.use(await openFolder("autocode-replicas-"));
  const home = join(folder.path, "home");
  opening.defer(() => endAll(home));
  const scriptsDir = join(folder.path, "scripts");
  await mkdir(scriptsDir);
  for (const [name, text] of Object.entries(options.scripts)) {
    await writeFile(join(scriptsDir, name), text);
  }
  await linkAgents(home, options.agentsDir ?? env["AUTOCODE_TEST_AGENTS_DIR"]);
  const common = {
    ...cleanEnvironment(),
    AUTOCODE_HOME: home,
    AUTOCODE_PORT: "0",
    AUTOCODE_EXAMPLE: "off",
    DATABASE_URL: options.databaseUrl,
  };
  const provider = await launch(
    ["models/scripted/main.ts", "--scripts", scriptsDir, "--port", "0", "--log"],
    common,
    /scripted model on (http\S+)/,
  );
  const gateway = await launch(["proxy/gateway/main.ts"], common, /gateway at (http\S+),/);
  opening.defer(() => void gateway.child.kill("SIGKILL"));
  opening.defer(() => void provider.child.kill("SIGKILL"));
  const environment = { ...common, ...options.env, AUTOCODE_GATEWAY_URL: gateway.url };
  const opened = opening.move();
  return {
    home,
    folder: folder.path,
    environment,
    providerUrl: provider.url,
    /** What the provider was asked: a line of its log each. */
    asked: () =>
      provider
        .output()
        .split("\n")
        .filter((line) => line.startsWith("{")),
    start,
    refuse,
    cli,
    json,
    get,
    post,
    orchestrators,
    token: tokenOf,
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };

  async function start(more: Record<string, string> = {}): Promise<Replica> {
    const main = ["orchestrator/main.ts"];
    const { child, url, output } = await launch(
      main,
      { ...environment, ...more },
      /UI at (http[^, ]+)/,
    );
    const kill9 = () => end(child, "SIGKILL");
    const stop = async () => {
      await end(child, "SIGINT");
      return child.exitCode;
    };
    // The address is printed after the token was written down.
    await eventually(
      () => output(),
      (text) => text.includes("/login?secret="),
      START_MS,
    );
    return { pid: child.pid ?? 0, url, output, kill9, stop };
  }

  /** Starts one that must end by itself. */
  function refuse(more: Record<string, string>): Promise<Ended> {
    const main = join(ROOT, "orchestrator/main.ts");
    return runToEnd(process.execPath, [main], { cwd: ROOT, env: { ...environment, ...more } });
  }

  function cli(...args: string[]): Promise<Ended> {
    const bin = join(ROOT, "bin/autocode.mjs");
    const cliEnv = { ...environment, NO_COLOR: "1" };
    return runToEnd(process.execPath, [bin, ...args], { cwd: folder.path, env: cliEnv });
  }

  async function json<Value>(...args: string[]): Promise<Value> {
    const ended = await cli(...args, "--json");
    assert.equal(ended.exit, 0, `autocode ${args.join(" ")}: ${ended.err}`);
    return JSON.parse(ended.out) as Value;
  }

  async function get<Value>(replica: Replica, path: string): Promise<Value> {
    const token = await tokenOf(replica);
    const response = await fetch(`${replica.url}/api/v1/${path}`, {
      headers: { authorization: `Bearer ${token}` },
    });
    const text = await response.text();
    assert.equal(response.status, 200, `${path}: ${text}`);
    return JSON.parse(text) as Value;
  }

  /** Its answer, whatever it is; rejects when the orchestrator dies before it has answered. */
  async function post(
    replica: Replica,
    path: string,
    { body, key }: { body?: object; key: string },
  ): Promise<{ status: number; text: string }> {
    const response = await fetch(`${replica.url}/api/v1/${path}`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${await tokenOf(replica)}`,
        "idempotency-key": key,
        ...(body !== undefined && { "content-type": "application/json" }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    return { status: response.status, text: await response.text() };
  }

  async function orchestrators(replica: Replica): Promise<Orchestrator[]> {
    return (await get<OrchestratorList>(replica, "orchestrators")).orchestrators;
  }

  async function tokenOf({ url }: Replica): Promise<string> {
    for (const name of ["endpoint.json", "endpoint-1.json", "endpoint-2.json"]) {
      const text = await readFile(join(home, "shared/configs", name), "utf8").catch(() => "{}");
      const endpoint = JSON.parse(text) as { url?: string; token?: string };
      if (endpoint.url === url) return endpoint.token ?? "";
    }
    throw new Error(`no endpoint file names ${url}`);
  }
}

async function launch(args: readonly string[], childEnv: Record<string, string>, ready: RegExp) {
  const child = spawn(process.execPath, [join(ROOT, args[0] ?? ""), ...args.slice(1)], {
    cwd: ROOT,
    env: childEnv,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (bytes: Buffer) => {
      text += bytes;
    });
  }
  const found = await eventually(
    () => ready.exec(text)?.[1] ?? (child.exitCode === null ? undefined : "ended"),
    (url) => url !== undefined,
    START_MS,
  );
  assert.match(found ?? "", /^http/, `${args[0]} ended: ${text}`);
  return { child, url: found ?? "", output: () => text };
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill(signal);
  await exited;
}

async function endAll(home: string): Promise<void> {
  for (const { pid } of await processesOf(home)) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It ended by itself in between.
    }
  }
  await eventually(
    () => processesOf(home),
    (left) => left.length === 0,
    30_000,
  );
}

async function linkAgents(home: string, dir: string | undefined): Promise<void> {
  if (dir === undefined) return;
  await mkdir(join(home, "shared"), { recursive: true, mode: 0o755 });
  await symlink(resolve(dir), join(home, "shared/agents"));
}
