/**
 * R8. Goal: whatever a Vault does, trials that run go on, nothing that needs a secret starts, it
 * goes on by itself within 30 s of the Vault's return, and nothing falls back to plain text.
 *
 * Method: an installation on a real OpenBao that `vault init` made ready, logged in by AppRole,
 * through a listener that passes on, answers late, forbids or cuts off. Trials run on the scripted
 * model. In the end the home, the log and the database's files are searched for the secret.
 */
import assert from "node:assert/strict";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import type { SecretsReport } from "../../orchestrator/contract/secrets.ts";
import type { Finding, Readiness } from "../../orchestrator/contract/system.ts";
import type { Trial } from "../../orchestrator/contract/trials.ts";
import { eventually } from "../support/eventually.ts";
import {
  type Installation,
  makeProject,
  openFolder,
  openInstallation,
  ROOT,
  runToEnd,
  whyNoAgents,
} from "../support/installation.ts";
import { type Openbao, openbaoSkip, openRaft } from "../support/openbao.ts";

const skip = openbaoSkip || (await whyNoAgents("claude-code"));
const AGAIN_MS = 30_000;
const LATE_MS = 30_000;
const SECRET = "sk-nobody-may-ever-find-this-on-a-disk";
/** Three calls, the second of which runs for a while. */
const SCRIPT = `match: slowly mended
plan: [[{ say: Write it. }]]
steps:
  - - write: { path: mended.txt, content: "yes\\n" }
  - - shell: sleep 6
  - - say: It is mended.
`;

test("R8: Vault sealed, late, forbidding, gone, expired", { skip }, async (t) => {
  await using bao = await openRaft();
  await using front = await openFront(bao.url);
  await using folder = await openFolder();
  const secretIdFile = join(folder.path, "secret-id");
  await writeFile(join(folder.path, "slow.yaml"), SCRIPT);
  const roleId = await initVault(bao, secretIdFile);
  await using installation = await openInstallation({
    env: {
      VAULT_ADDR: front.url,
      VAULT_ROLE_ID: roleId,
      VAULT_SECRET_ID_FILE: secretIdFile,
      AUTOCODE_VAULT_TIMEOUT_MS: "2000",
      AUTOCODE_SCRIPTS: folder.path,
      AUTOCODE_SLOTS: "6",
    },
  });

  await t.test("it starts on a sealed Vault, and says so", async () => {
    await bao.seal();
    await installation.start();
    const report = await installation.get<SecretsReport>("secrets/status");
    assert.deepEqual([report.engine, report.state, report.key_id], ["vault", "sealed", null]);
    assert.match(report.detail, /unseal it/);
    const ready = await readiness(installation);
    assert.match(ready.dependencies["secrets"] ?? "", /^sealed: Vault at http/);
    assert.equal(ready.is_ready, true);
    const { findings } = await installation.get<{ findings: Finding[] }>("doctor");
    const found = findings.find(({ part }) => part === "secrets");
    assert.match(`${found?.status} ${found?.detail}`, /^warn SEALED: .*VAULT_ADDR is set$/);
    const put = await installation.cli("secret", "ls");
    assert.equal(put.exit, 5, put.err);
    await bao.unseal();
    await untilSecrets(installation, "ready");
  });

  const repository = await makeRepository(installation);
  await makeProject(installation, "example");
  const own = join(ROOT, "bin/autocode.mjs");
  const put = `printf %s ${SECRET} | "${process.execPath}" "${own}" secret put provider/openai`;
  assert.equal((await runToEnd("sh", ["-c", put], { env: installation.environment })).exit, 0);

  const faults: Record<string, { begin(): Promise<void>; end(): Promise<void>; state: RegExp }> = {
    sealed: { begin: () => bao.seal(), end: () => bao.unseal(), state: /sealed/ },
    "30 s late": { ...front.as("late"), state: /unreachable/ },
    forbidding: { ...front.as("forbids"), state: /expired|denied/ },
    gone: { ...front.as("cuts"), state: /unreachable/ },
    "our AppRole expired": {
      begin: () => revoke(bao),
      end: async () => writeFile(secretIdFile, await newSecretId(bao)),
      state: /expired/,
    },
  };
  for (const [name, fault] of Object.entries(faults)) {
    await t.test(`Vault ${name}, while trials run`, async () => {
      const running: string[] = [];
      for (let count = name === "sealed" ? 3 : 1; count > 0; count--) {
        running.push(await begin(installation, repository));
      }
      for (const id of running) {
        await installation.untilState(id, ["running"]);
        await untilCalls(installation, id, 1);
      }
      await fault.begin();
      const { state } = await untilSecrets(installation, fault.state);
      const waiting = await begin(installation, repository);

      // What runs goes on: its calls are paid and answered, up to its report.
      for (const id of running) {
        const reported = await installation.untilState(id, ["verifying", "succeeded"]);
        assert.ok(reported.state === "verifying" || reported.tries === 1);
        assert.ok((await installation.calls(id)).length >= 3);
      }
      const held = await eventually(
        () => installation.trial(waiting),
        (trial) => trial.reason !== null,
        20_000,
      );
      assert.equal(held.state, "admitted");
      assert.match(held.reason ?? "", /^waits for the secrets: /);
      const allocations = (await installation.events(waiting)).map(({ data }) => data["to"]);
      assert.ok(!allocations.includes("placed"), "nothing is half-placed");
      const askedMs = performance.now();
      await installation.trial(waiting);
      // A wait for the secrets is of 30 s.
      assert.ok(performance.now() - askedMs < 15_000, "who needs no secret does not wait");

      const endedMs = performance.now();
      await fault.end();
      await installation.untilState(waiting, ["placed", "running", "verifying", "succeeded"]);
      const tookMs = Math.round(performance.now() - endedMs);
      t.diagnostic(`${name}: ${state}; a waiting trial was placed ${tookMs} ms after its end`);
      assert.ok(tookMs < AGAIN_MS, `${tookMs} ms`);
      for (const id of [...running, waiting]) {
        const ended = await installation.untilState(id, ["succeeded", "failed", "errored"], 90_000);
        assert.deepEqual([ended.state, ended.tries], ["succeeded", 1], ended.reason ?? "");
        assert.equal(ended.budget?.reserved_nanos, "0");
      }
    });
  }

  await t.test("what was signed before and after a rotation holds", async () => {
    const { exit } = await installation.cli("secret", "rotate-key");
    assert.equal(exit, 0);
    const verified = await installation.cli("ledger", "verify");
    assert.equal(verified.exit, 0, verified.err);
    const file = join(installation.folder, "export.jsonl");
    assert.equal((await installation.cli("ledger", "export", "-o", file)).exit, 0);
    const offline = await installation.cli("ledger", "verify", file);
    assert.equal(offline.exit, 0, offline.err + offline.out);
  });

  await t.test("nothing fell back to plain text, or to a file", async () => {
    const secretId = (await readFile(secretIdFile, "utf8")).trim();
    for (const word of [SECRET, secretId]) {
      assert.ok(!installation.output().includes(word), "in the log");
      assert.deepEqual(await filesWith(installation.home, word), []);
    }
    const sealed = await readdir(join(installation.home, "shared/vault-secrets")).catch(() => []);
    assert.deepEqual(sealed, [], "no store was made beside the Vault");
  });
});

/** A listener before the Vault that does as it is told. */
async function openFront(target: string) {
  let mode: "passes" | "late" | "forbids" | "cuts" = "passes";
  const server = createServer(async (request, reply) => {
    if (mode === "cuts") return void request.socket.destroy();
    if (mode === "forbids") {
      return void reply.writeHead(403).end('{"errors":["permission denied"]}');
    }
    if (mode === "late") await new Promise((resolve) => setTimeout(resolve, LATE_MS).unref());
    const { "x-vault-token": token } = request.headers;
    try {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const answer = await fetch(target + request.url, {
        method: request.method ?? "GET",
        headers: token === undefined ? {} : { "x-vault-token": String(token) },
        ...(chunks.length === 0 ? {} : { body: Buffer.concat(chunks) }),
      });
      reply.writeHead(answer.status, { "content-type": "application/json" });
      reply.end(await answer.text());
    } catch {
      // Who asked has given up, or the server is gone.
      reply.destroy();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    as: (next: typeof mode) => ({
      begin: async () => {
        mode = next;
      },
      end: async () => {
        mode = "passes";
      },
    }),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function initVault(bao: Openbao, secretIdFile: string): Promise<string> {
  const bin = join(ROOT, "bin/autocode.mjs");
  const args = ["vault", "init", "--json", "--secret-id-file", secretIdFile];
  const { PATH = "" } = process.env;
  const env = { PATH, VAULT_ADDR: bao.url, VAULT_TOKEN: bao.token };
  const ended = await runToEnd(process.execPath, [bin, ...args], { env });
  assert.equal(ended.exit, 0, ended.err);
  return (JSON.parse(ended.out) as { role_id: string }).role_id;
}

/** As after a leak: every token and secret id of the AppRole is gone. */
async function revoke(bao: Openbao): Promise<void> {
  const role = "auth/approle/role/autocode-orchestrator";
  const { data } = await bao.ask("GET", `${role}/secret-id?list=true`);
  for (const accessor of data["keys"]) {
    await bao.ask("POST", `${role}/secret-id-accessor/destroy`, { secret_id_accessor: accessor });
  }
  await bao.ask("PUT", "sys/leases/revoke-prefix/auth/approle");
}

async function newSecretId(bao: Openbao): Promise<string> {
  const path = "auth/approle/role/autocode-orchestrator/secret-id";
  return (await bao.ask("POST", path, {}))["data"]["secret_id"];
}

function untilSecrets(installation: Installation, state: string | RegExp) {
  const look = () => installation.get<SecretsReport>("secrets/status");
  const holds = (report: SecretsReport) =>
    typeof state === "string" ? report.state === state : state.test(report.state);
  return eventually(look, holds, AGAIN_MS);
}

async function readiness(installation: Installation): Promise<Readiness> {
  return (await (await fetch(`${installation.url()}/readyz`)).json()) as Readiness;
}

function untilCalls(installation: Installation, id: string, count: number) {
  const look = () => installation.calls(id);
  return eventually(look, (calls) => calls.length >= count, 60_000);
}

async function makeRepository(installation: Installation): Promise<string> {
  const path = join(installation.folder, "repository");
  const git = (...args: string[]) =>
    runToEnd("git", ["-c", "user.name=a", "-c", "user.email=a@example.org", ...args]);
  await git("init", "-q", path);
  await writeFile(join(path, "README"), "To be mended.\n");
  await git("-C", path, "add", ".");
  assert.equal((await git("-C", path, "commit", "-qm", "start")).exit, 0);
  return path;
}

async function begin(installation: Installation, repository: string): Promise<string> {
  const task = ["-p", repository, "--instruction", "It is to be slowly mended"];
  const decides = ["--test", "test -f mended.txt"];
  const what = ["--project", "example", "-a", "claude-code", "-m", "scripted", "--detach"];
  return (await installation.json<Trial>("trial", "run", ...task, ...decides, ...what)).id;
}

/** The files under `dir` that hold `word`; not the agents', which many installations share. */
async function filesWith(dir: string, word: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(dir, { withFileTypes: true, recursive: true })) {
    const path = join(entry.parentPath, entry.name);
    if (!entry.isFile() || path.includes("/shared/agents/")) continue;
    const text = await readFile(path, "latin1").catch(() => "");
    if (text.includes(word)) found.push(path);
  }
  return found;
}
