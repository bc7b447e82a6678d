/**
 * Goal: a gateway of its own process serves a ledger that other processes use too, forgets nothing
 * when it is stopped, and outlives a database that goes away.
 *
 * Method: `proxy/gateway/main.ts` as a process, beside the gateway of the fixture on one database.
 * The database goes away and comes back behind a relay of ours.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { statSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import test from "node:test";
import { eventually } from "../../support/eventually.ts";
import {
  answerChat,
  chatEvents,
  openTestGateway,
  type TestGateway,
} from "../../support/gateway.ts";
import { cleanEnvironment, openFolder, ROOT } from "../../support/installation.ts";

const READY = /gateway at (http\S+), metrics at (http\S+)\n/;

async function openProcess(world: TestGateway, more: Record<string, string> = {}) {
  const folder = await openFolder("autocode-gateway-");
  const home = join(folder.path, "home");
  const child: ChildProcess = spawn(process.execPath, [join(ROOT, "proxy/gateway/main.ts")], {
    env: {
      ...cleanEnvironment(),
      AUTOCODE_HOME: home,
      DATABASE_URL: world.database.url,
      VLLM_BASE_URL: world.models.url,
      AUTOCODE_GATEWAY_GRACE_MS: "20000",
      ...more,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (bytes: Buffer) => {
      output += bytes;
    });
  }
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null;
  await eventually(() => READY.test(output) || hasEnded(), Boolean, 30_000);
  const [, url = "", metricsUrl = ""] = READY.exec(output) ?? [];
  return {
    child,
    home,
    url,
    metricsUrl,
    output: () => output,
    ended: () => eventually(() => (hasEnded() ? child.exitCode : "running"), isExit, 30_000),
    chat: (secret: string, body: Record<string, unknown> = {}) =>
      fetch(`${url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
        body: JSON.stringify({ model: "normal", messages: [], max_tokens: 50, ...body }),
      }),
    [Symbol.asyncDispose]: async () => {
      if (!hasEnded()) child.kill("SIGKILL");
      await eventually(hasEnded, Boolean);
      await folder[Symbol.asyncDispose]();
    },
  };
}

function isExit(value: unknown): boolean {
  return value !== "running";
}

/** A trial whose models are the process's own provider's. */
async function openTrial(world: TestGateway, fundedNanos = 1_000_000n) {
  const trial = await world.openTrial(fundedNanos);
  const models = trial.grant.models.map((model) => ({ ...model, provider: "vllm" }));
  const issued = await world.keys.issue({ ...trial.grant, models }, Date.now() + 600_000);
  return { ...trial, ...issued };
}

/** A way to the database that can be shut. */
async function openRelay(target: URL) {
  const sockets = new Set<Socket>();
  let server: Server = await listen(0);
  const { port } = server.address() as { port: number };
  const url = new URL(target);
  url.host = `127.0.0.1:${port}`;
  return { url: url.href, shut, reopen, [Symbol.asyncDispose]: shut };

  function listen(at: number): Promise<Server> {
    const made = createServer((socket) => {
      const onward = connect({ port: Number(target.port), host: target.hostname });
      for (const [one, other] of [
        [socket, onward],
        [onward, socket],
      ] as const) {
        sockets.add(one);
        one.pipe(other);
        one.on("error", () => other.destroy());
        one.on("close", () => other.destroy());
      }
    });
    return new Promise((resolve) => made.listen(at, "127.0.0.1", () => resolve(made)));
  }

  async function shut(): Promise<void> {
    const closed = new Promise((resolve) => server.close(resolve));
    for (const socket of sockets) socket.destroy();
    sockets.clear();
    await closed;
  }

  async function reopen(): Promise<void> {
    server = await listen(port);
  }
}

test("calls are served and settled; its metrics are not on the workers' port", async () => {
  await using world = await openTestGateway({ behave: answerChat });
  await using gateway = await openProcess(world);
  const { secret, budget } = await openTrial(world);
  const response = await gateway.chat(secret);
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("x-autocode-cost-nanos"), "120");
  assert.equal(response.headers.get("x-autocode-remaining-nanos"), "999880");
  assert.equal((await world.quiet(budget)).spentNanos, 120n);
  // It was here before any orchestrator: agents' users must pass through what it made, later on.
  const modes = [gateway.home, join(gateway.home, "shared")].map((each) => statSync(each).mode);
  assert.deepEqual(
    modes.map((mode) => mode & 0o777),
    [0o711, 0o711],
  );

  for (const path of ["/metrics", "/healthz", "/readyz"]) {
    assert.equal((await fetch(gateway.url + path)).status, 404);
  }
  const text = await (await fetch(gateway.metricsUrl)).text();
  assert.match(text, /^autocode_gateway_cost_nanos_total\{currency="CAD"\} 120$/m);
  const ready = await fetch(new URL("/readyz", gateway.metricsUrl));
  assert.deepEqual([ready.status, await ready.text()], [200, "ready\n"]);
});

test("a key that another process revokes stops within a second or so", async () => {
  await using world = await openTestGateway({ behave: answerChat });
  await using gateway = await openProcess(world);
  const { secret, grant } = await openTrial(world);
  assert.equal((await gateway.chat(secret)).status, 200);
  await world.keys.revokeAll(grant.trialId);
  const status = async () => (await gateway.chat(secret)).status;
  await eventually(status, (found) => found === 401, 2_500);
});

test("a budget that another process tops up is served again", async () => {
  await using world = await openTestGateway({ behave: answerChat });
  await using gateway = await openProcess(world);
  const { secret, budget } = await openTrial(world, 10n);
  const status = async () => (await gateway.chat(secret)).status;
  assert.equal(await status(), 403);
  const account = { id: world.ids.next("account"), owner: "test/more", currency: "CAD" };
  const from = await world.ledger.open({ ...account, kind: "funding", mustNotExceed: false });
  const more = { from, to: budget, amountNanos: 1_000_000n, reason: "top-up" };
  await world.ledger.fund({ id: world.ids.next("transfer"), ...more });
  await eventually(status, (found) => found === 200, 3_000);
});

test("told to stop, it takes no new call, and ends and settles the running one", async () => {
  const gate = Promise.withResolvers<void>();
  await using world = await openTestGateway({
    behave: async (_, response) => {
      const events = chatEvents("hello there", { prompt_tokens: 100, completion_tokens: 10 });
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(events[0]);
      await gate.promise;
      for (const event of events.slice(1)) response.write(event);
      response.end();
    },
  });
  await using gateway = await openProcess(world);
  const { secret, budget } = await openTrial(world);
  const running = await gateway.chat(secret, { stream: true });
  gateway.child.kill("SIGTERM");
  const refused = () =>
    fetch(gateway.url, { headers: { connection: "close" } }).then(
      () => false,
      () => true,
    );
  await eventually(refused, Boolean);
  gate.resolve();
  assert.match(await running.text(), /\[DONE\]/);
  assert.equal(await gateway.ended(), 0, gateway.output());
  assert.equal((await world.quiet(budget)).spentNanos, 120n);
  assert.equal((await world.calls()).length, 1);
});

test("while the database is away calls are refused, and what runs is settled after", async () => {
  const gate = Promise.withResolvers<void>();
  await using world = await openTestGateway({
    behave: async (received, response) => {
      if (JSON.parse(received.text).stream === true) await gate.promise;
      answerChat(received, response);
    },
  });
  await using relay = await openRelay(new URL(world.database.url));
  await using gateway = await openProcess(world, { DATABASE_URL: relay.url });
  const { secret, budget } = await openTrial(world);
  const running = gateway.chat(secret, { stream: true });
  await eventually(
    () => world.models.requests.length,
    (count) => count === 1,
  );
  await relay.shut();

  const refused = await gateway.chat(secret);
  assert.equal(refused.status, 503);
  assert.equal(refused.headers.get("retry-after"), "2");
  gate.resolve();
  assert.match(await (await running).text(), /\[DONE\]/);
  const ready = await fetch(new URL("/readyz", gateway.metricsUrl));
  assert.equal(ready.status, 503);

  await relay.reopen();
  const status = async () => (await gateway.chat(secret)).status;
  await eventually(status, (found) => found === 200, 10_000);
  await world.quiet(budget, (spentNanos) => spentNanos === 240n);
});

test("without a database it says what to do", async () => {
  await using world = await openTestGateway();
  await using gateway = await openProcess(world, { DATABASE_URL: "" });
  assert.equal(await gateway.ended(), 2);
  assert.match(gateway.output(), /^DATABASE_URL: .* set it to that of the orchestrator/);
});
