/**
 * Goal: a provider that answers 429 with a long Retry-After costs a trial that time and nothing
 * else: the trial pauses until then, outlives a kill of the orchestrator meanwhile, goes on by
 * itself in the agent's own session, and asks the provider nothing before its time.
 *
 * Method: a provider of the test's own in front of the scripted model, whose quota is used up once,
 * in the middle of a trial. The wait is a real one, a little longer than what a client sits out.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import test from "node:test";
import { createScriptedModel } from "../../models/scripted/server.ts";
import type { Trial } from "../../orchestrator/contract/trials.ts";
import { makeProject, ROOT, startInstallation, whyNoAgents } from "../support/installation.ts";

const skip = await whyNoAgents("claude-code");
/** Above what is passed on to the agent as a moment's wait: 60 s. */
const RETRY_AFTER_S = 61;
/** So many calls are answered before the quota is used up. */
const ANSWERED_BEFORE = 3;

test("a used-up quota pauses a trial until the provider's own time", { skip }, async () => {
  await using provider = await openProvider();
  await using installation = await startInstallation();
  const model = (side: string) =>
    `${side}: { model: scripted-${side}, base_url: "${provider.url}", ` +
    'wires: [anthropic.messages], price: { input: "1", output: "2" } }';
  const models = `models: { mine: { ${model("normal")}, ${model("thinking")} } }`;
  await makeProject(installation, "quota", ["pairs: [mine]", models]);
  const what = ["--project", "quota", "--task", "fix-median", "-a", "claude-code"];
  const { id } = await installation.json<Trial>("trial", "run", ...what, "--detach");

  const paused = await installation.untilState(id, ["paused", "failed", "errored", "succeeded"]);
  assert.equal(paused.state, "paused", paused.reason ?? "");
  const { limitedAtMs } = provider;
  assert.ok(limitedAtMs !== null);
  const resumeAt = paused.resume_at ?? "";
  const aheadMs = Date.parse(resumeAt) - limitedAtMs;
  // Never before it; after it by what the answer's way through the gateway took.
  const lateMs = aheadMs - RETRY_AFTER_S * 1_000;
  assert.ok(lateMs > -1_000 && lateMs < 15_000, `resumes ${aheadMs} ms on`);
  assert.equal(paused.reason, `provider quota until ${resumeAt}`);
  assert.equal(paused.budget?.reserved_nanos, "0", "what waits holds nothing");
  const shown = await installation.cli("trial", "show", id);
  assert.ok(shown.out.includes("paused") && shown.out.includes("provider quota"), shown.out);

  await installation.kill9();
  await installation.start();
  const askedBefore = provider.asked();
  const spent = (await installation.trial(id)).budget?.spent_nanos;
  const going = await installation.untilState(id, ["queued", "placed", "running"], 90_000);
  assert.ok(Date.now() >= Date.parse(resumeAt) - 500, "not before its time");
  assert.equal(provider.asked(), askedBefore, "nobody asked it meanwhile");
  assert.equal(going.budget?.spent_nanos, spent, "a pause is free");

  const ended = await installation.untilState(id, ["succeeded", "failed", "errored"], 90_000);
  assert.deepEqual([ended.state, ended.verdict, ended.tries], ["succeeded", "passed", 1]);
  const calls = await installation.calls(id);
  const cost = calls.reduce((sum, call) => sum + BigInt(call.cost_nanos), 0n);
  const budget = ended.budget;
  assert.deepEqual([budget?.spent_nanos, budget?.reserved_nanos], [String(cost), "0"]);
  assert.equal(calls.filter(({ status }) => status === 429).length, 1, "told once");
  const events = await installation.events(id);
  const quota = events.filter(({ type }) => type === "quota.exhausted");
  assert.deepEqual(
    quota.map(({ data }) => data["until"]),
    [resumeAt],
  );
});

/** The scripted model behind a provider whose quota is used up at a call, for `RETRY_AFTER_S`. */
async function openProvider() {
  const scripted = createScriptedModel({ scriptsDir: join(ROOT, "examples/scripts") });
  const { url: scriptedUrl } = await scripted.listen(0);
  const state = { asked: 0, limitedAtMs: null as number | null };
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    state.asked += 1;
    const isNow = state.asked > ANSWERED_BEFORE && state.limitedAtMs === null;
    if (isNow) state.limitedAtMs = Date.now();
    const isOver = Date.now() >= (state.limitedAtMs ?? 0) + RETRY_AFTER_S * 1_000;
    if (state.limitedAtMs !== null && !isOver) {
      const error = { type: "rate_limit_error", message: "Your quota is used up." };
      response.writeHead(429, {
        "content-type": "application/json",
        "retry-after": String(RETRY_AFTER_S),
      });
      response.end(JSON.stringify({ type: "error", error }));
      return;
    }
    const { authorization, "x-api-key": key, "anthropic-version": version } = request.headers;
    const answer = await fetch(`${scriptedUrl}${request.url}`, {
      method: request.method ?? "POST",
      headers: {
        "content-type": "application/json",
        ...(authorization === undefined ? {} : { authorization }),
        ...(typeof key === "string" ? { "x-api-key": key } : {}),
        ...(typeof version === "string" ? { "anthropic-version": version } : {}),
      },
      body: Buffer.concat(chunks),
    });
    const type = answer.headers.get("content-type") ?? "application/json";
    response.writeHead(answer.status, { "content-type": type });
    response.end(Buffer.from(await answer.arrayBuffer()));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    asked: () => state.asked,
    get limitedAtMs() {
      return state.limitedAtMs;
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await scripted.close();
    },
  };
}
