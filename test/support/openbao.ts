/**
 * OpenBao, a real server of the Vault API, for one test file: in development mode, or with raft and
 * a seal of its own for tests that seal it. Ended by its process id.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { env } from "node:process";
import { eventually } from "./eventually.ts";
import { freePort } from "./free-port.ts";

const BINARY = env["BAO_BIN"] ?? join(import.meta.dirname, "../../.engines/openbao/bao");
export const ROOT_TOKEN = "root";

/** For a test's `skip`: why, or false. Required engines are never skipped. */
export const openbaoSkip: string | false =
  existsSync(BINARY) || env["AUTOCODE_REQUIRE_ENGINES"] === "all"
    ? false
    : "OpenBao is not installed: npm run engines openbao";

export interface Openbao extends AsyncDisposable {
  url: string;
  /** Of the root. */
  token: string;
  pid: number;
  /** The API as its operator uses it; the answer's JSON. @throws Error with the server's words. */
  ask(method: string, path: string, body?: object, token?: string): Promise<Answer>;
  seal(): Promise<void>;
  unseal(): Promise<void>;
}

export interface Answer {
  // biome-ignore lint/suspicious/noExplicitAny: the shapes of another program, read by tests alone
  [member: string]: any;
}

/** KV v2 is at `secret/`. It cannot be unsealed again: use `openRaft` for that. */
export async function openDev(): Promise<Openbao> {
  const port = await freePort();
  const child = start([
    ...["server", "-dev", `-dev-root-token-id=${ROOT_TOKEN}`, "-dev-no-store-token"],
    `-dev-listen-address=127.0.0.1:${port}`,
  ]);
  const bao = opened(child, port, ROOT_TOKEN, null, async () => {});
  await eventually(bao.isUp, (isUp) => isUp, 30_000);
  return bao;
}

/** One node with raft storage, initialised with one key share, unsealed, with KV v2 mounted. */
export async function openRaft(): Promise<Openbao> {
  const folder = await mkdtemp(join(tmpdir(), "autocode-openbao-"));
  const [port, clusterPort] = [await freePort(), await freePort()];
  const config = join(folder, "config.hcl");
  await writeFile(
    config,
    `storage "raft" {
      path = "${folder}"
      node_id = "one"
      performance_multiplier = 1
    }
    listener "tcp" {
      address = "127.0.0.1:${port}"
      cluster_address = "127.0.0.1:${clusterPort}"
      tls_disable = true
    }
    api_addr = "http://127.0.0.1:${port}"
    cluster_addr = "http://127.0.0.1:${clusterPort}"
    disable_mlock = true
    `,
  );
  const child = start(["server", `-config=${config}`]);
  const remove = () => rm(folder, { recursive: true, force: true });
  const early = opened(child, port, "", null, remove);
  await eventually(early.isUp, (isUp) => isUp, 30_000);
  const shares = { secret_shares: 1, secret_threshold: 1 };
  const made = await early.ask("PUT", "sys/init", shares);
  const bao = opened(child, port, made["root_token"], made["keys"][0], remove);
  await bao.unseal();
  await bao.ask("POST", "sys/mounts/secret", { type: "kv", options: { version: "2" } });
  return bao;
}

function start(args: readonly string[]): ChildProcess {
  const { PATH } = env;
  return spawn(BINARY, args, { stdio: "ignore", env: { PATH } });
}

function opened(
  child: ChildProcess,
  port: number,
  token: string,
  key: string | null,
  remove: () => Promise<void>,
) {
  const url = `http://127.0.0.1:${port}`;
  return {
    ...{ url, token, ask, seal, unseal, isUp },
    pid: child.pid ?? 0,
    [Symbol.asyncDispose]: close,
  };

  async function ask(method: string, path: string, body?: object, as = token): Promise<Answer> {
    const answer = await fetch(`${url}/v1/${path}`, {
      method,
      headers: { "X-Vault-Token": as },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text === "" ? {} : (JSON.parse(text) as Answer);
  }

  async function seal(): Promise<void> {
    await ask("PUT", "sys/seal");
  }

  async function unseal(): Promise<void> {
    await ask("PUT", "sys/unseal", { key });
    await eventually(
      () => fetch(`${url}/v1/sys/health`).then(({ status }) => status),
      (status) => status === 200,
      30_000,
    );
  }

  function isUp(): Promise<boolean> {
    if (child.exitCode !== null) throw new Error(`openbao ended with ${child.exitCode}`);
    return fetch(`${url}/v1/sys/health`).then(
      () => true,
      () => false,
    );
  }

  async function close(): Promise<void> {
    if (child.exitCode === null && child.signalCode === null) {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await ended;
    }
    await remove();
  }
}
