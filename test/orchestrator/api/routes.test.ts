/**
 * Goal: each route answers what the contract says, and each refusal is a problem that names the
 * field and leaves nothing behind.
 *
 * Method: `inject` against the whole server; every answer is checked against its wire schema.
 */
import assert from "node:assert/strict";
import test from "node:test";
import type { InjectOptions } from "fastify";
import type { TSchema } from "typebox";
import { Value } from "typebox/value";
import { createApi } from "../../../orchestrator/api/server.ts";
import { AgentList } from "../../../orchestrator/contract/agents.ts";
import { ArtefactList } from "../../../orchestrator/contract/artefacts.ts";
import {
  AdherenceReport,
  BudgetEventList,
  BudgetList,
  BudgetReport,
  CostReport,
  ProfitReport,
  Statement,
} from "../../../orchestrator/contract/budgets.ts";
import { CallList } from "../../../orchestrator/contract/calls.ts";
import { TrialEngineList } from "../../../orchestrator/contract/engines.ts";
import { EventPage } from "../../../orchestrator/contract/events.ts";
import { PriceList, PriceReport } from "../../../orchestrator/contract/prices.ts";
import { Project, ProjectList, Task, TaskList } from "../../../orchestrator/contract/projects.ts";
import { Repricing } from "../../../orchestrator/contract/repricing.ts";
import { DoctorReport, PairList, ProblemBody } from "../../../orchestrator/contract/system.ts";
import {
  Experiment,
  ExperimentList,
  Trial,
  TrialPage,
} from "../../../orchestrator/contract/trials.ts";
import { APPROVAL } from "../../support/api-answers.ts";
import { ALLOCATION_TOKEN, type ApiFixture, openApiServices } from "../../support/api-services.ts";

const TRIAL = { project: "demo", agent: "aider", pair: "scripted", task: "fix-add" };

test("reading", async (t) => {
  await using fixture = await openApiServices();
  const call = await openCaller(fixture);
  const { id } = (await call.post("/api/v1/trials", TRIAL, "k1")).json();
  const made = await call.post(
    "/api/v1/experiments",
    {
      project: "demo",
      name: "matrix",
      agents: ["aider", "qwen-code"],
      pairs: ["scripted"],
      tasks: ["fix-add"],
      attempts: 1,
      assignment: "all",
    },
    "k1",
  );
  assert.equal(made.statusCode, 201);
  assert.ok(Value.Check(Experiment, made.json()));

  const answers: [string, TSchema][] = [
    ["/projects", ProjectList],
    ["/projects/demo", Project],
    ["/projects/demo/tasks", TaskList],
    ["/agents", AgentList],
    ["/pairs?project=demo", PairList],
    ["/prices?currency=CAD&at=2026-11-21T12:00:00Z", PriceList],
    ["/prices/explain?model=scripted-normal", PriceReport],
    ["/trials", TrialPage],
    [`/trials/${id}`, Trial],
    [`/trials/${id}/calls`, CallList],
    [`/trials/${id}/engines`, TrialEngineList],
    [`/trials/${id}/events`, EventPage],
    [`/trials/${id}/artefacts`, ArtefactList],
    ["/experiments", ExperimentList],
    [`/experiments/${made.json().id}`, Experiment],
    ["/budgets", BudgetList],
    ["/budgets/demo", BudgetReport],
    ["/budgets/demo?at=2026-11-20T12:00:00Z", BudgetReport],
    ["/budgets/demo/events?limit=2", BudgetEventList],
    ["/budgets/demo/profit", ProfitReport],
    ["/budgets/demo/costs?by=phase", CostReport],
    ["/budgets/demo/adherence?limit=2", AdherenceReport],
    ["/budgets/demo/statement?limit=2", Statement],
    ["/doctor", DoctorReport],
  ];
  for (const [path, schema] of answers) {
    await t.test(`GET ${path.replace(id, ":id")}`, async () => {
      const response = await call.get(`/api/v1${path}`);
      assert.equal(response.statusCode, 200, response.body);
      assert.deepEqual([...Value.Errors(schema, response.json())], []);
    });
  }

  await t.test("pages of trials follow each other to the end", async () => {
    const ids: string[] = [];
    let cursor: string | null = "";
    while (cursor !== null) {
      const before: string = cursor === "" ? "" : `&before=${cursor}`;
      const page: TrialPage = (await call.get(`/api/v1/trials?limit=2${before}`)).json();
      assert.ok(page.trials.length <= 2);
      ids.push(...page.trials.map((trial) => trial.id));
      cursor = page.next_cursor;
    }
    assert.deepEqual(ids, [...fixture.trials.keys()].toSorted().reverse());
  });

  await t.test("events after a seq", async () => {
    const { events, next_after_seq: next } = (
      await call.get(`/api/v1/trials/${id}/events?after_seq=1`)
    ).json();
    assert.deepEqual({ events, next }, { events: [], next: 1 });
  });

  await t.test("amounts past 2^53 arrive whole", async () => {
    const { balance } = (await call.get("/api/v1/budgets/demo")).json();
    assert.equal(balance.funded_nanos, "9007199254740993");
  });

  await t.test("files: diff, artefact, export, trajectory, metrics", async () => {
    const diff = await call.get(`/api/v1/trials/${id}/diff`);
    assert.equal(diff.headers["content-type"], "text/x-diff; charset=utf-8");
    assert.equal(diff.body, "--- a\n+++ b\n");
    const artefact = await call.get(`/api/v1/trials/${id}/artefacts/changes.patch`);
    assert.equal(artefact.headers["content-disposition"], 'attachment; filename="changes.patch"');
    assert.equal(artefact.headers["x-content-type-options"], "nosniff");
    const csv = await call.get("/api/v1/budgets/demo/export?format=csv&since=2026-11-01");
    assert.equal(csv.headers["content-type"], "text/csv; charset=utf-8");
    const trajectory = await call.get(`/api/v1/trials/${id}/trajectory`);
    assert.equal(trajectory.json().session_id, id);
    assert.match((await call.get("/metrics")).body, /autocode_trials_total/);
    const log = await call.get(`/api/v1/trials/${id}/worker-log?output=stderr&follow=true`);
    assert.equal(log.headers["content-type"], "text/plain; charset=utf-8");
    assert.match(log.body, /^the log: stderr of newest: .*safe\n$/);
  });
});

test("changing", async (t) => {
  await using fixture = await openApiServices();
  const call = await openCaller(fixture);

  await t.test("a project is applied and a task imported", async () => {
    const file = { file_text: "project: demo", file_name: "autocode.yaml", folder: "/p" };
    const project = await call.post("/api/v1/projects", file);
    assert.ok(Value.Check(Project, project.json()));
    const task = await call.post("/api/v1/projects/demo/tasks", { folder: "/p/task" });
    assert.ok(Value.Check(Task, task.json()));
  });

  await t.test("a trial is made, stopped, and not resumed unless paused", async () => {
    const { id } = (await call.post("/api/v1/trials", TRIAL, "once")).json();
    assert.equal((await call.post(`/api/v1/trials/${id}/resume`)).statusCode, 409);
    fixture.moveTo(id, { state: "paused" });
    assert.equal((await call.post(`/api/v1/trials/${id}/resume`)).json().state, "queued");
    assert.equal((await call.post(`/api/v1/trials/${id}/stop`)).json().state, "cancelled");
  });

  await t.test("a trial is charged again at other prices, or is told why not", async () => {
    const { id } = (await call.post("/api/v1/trials", TRIAL, "repriced")).json();
    const path = `/api/v1/trials/${id}/reprice`;
    const answer = await call.post(path, { pair: "scripted", at: "2026-11-21T12:00:00Z" });
    assert.equal(answer.statusCode, 200, answer.body);
    assert.deepEqual([...Value.Errors(Repricing, answer.json())], []);
    assert.equal((await call.post(path, { pair: "nobody" })).statusCode, 400);
    assert.equal((await call.post(path, { price: 1 })).statusCode, 400);
    assert.equal((await call.get("/api/v1/prices/explain?model=m")).statusCode, 404);
  });

  await t.test("an approval is answered once, and only what it is about", async () => {
    const { id, content_sha256 } = APPROVAL;
    const path = `/api/v1/approvals/${id}`;
    const listed = (await call.get("/api/v1/approvals?state=open")).json();
    assert.deepEqual(listed, { approvals: [APPROVAL] });
    assert.deepEqual((await call.get("/api/v1/approvals?state=granted")).json().approvals, []);
    assert.deepEqual((await call.get(path)).json(), APPROVAL);
    const other = { content_sha256: "0".repeat(64) };
    assert.equal((await call.post(`${path}/approve`, other, "a1")).statusCode, 409);
    const granted = (await call.post(`${path}/approve`, { content_sha256 }, "a2")).json();
    assert.equal(granted.state, "granted");
    const why = { content_sha256, reason: "too dear" };
    assert.equal((await call.post(`${path}/reject`, why, "r1")).json().reason, "too dear");
    assert.equal((await call.post(`${path}/reject`, { content_sha256 }, "r2")).statusCode, 400);
    assert.deepEqual([fixture.effects["approve"], fixture.effects["reject"]], [1, 1]);
  });

  await t.test("an agent's installation tells its progress line by line", async () => {
    const response = await call.post("/api/v1/agents/aider/install");
    assert.equal(response.headers["content-type"], "application/x-ndjson");
    const steps = response.body
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line).step);
    assert.deepEqual(steps, ["installing", "installed"]);
    const unknown = await call.post("/api/v1/agents/nobody/install");
    assert.equal(unknown.statusCode, 404);
    assert.match(unknown.json().detail, /aider, qwen-code/);
  });

  await t.test("a worker's requests", async () => {
    const headers = { authorization: `Bearer ${ALLOCATION_TOKEN}` };
    const send = (options: InjectOptions) =>
      call.api.inject({ ...options, headers: { ...headers, ...options.headers } });
    const source = await send({ url: "/api/v1/worker/source" });
    assert.equal(source.body, "--- a\n+++ b\n");
    assert.equal((await send({ url: "/api/v1/worker/tests" })).statusCode, 404);
    const event = { type: "worker.step", at: "2026-11-21T12:00:00Z", data: {} };
    const acked = await send({
      method: "POST",
      url: "/api/v1/worker/events",
      payload: {
        events: [
          { cursor: 1, ...event },
          { cursor: 2, ...event },
        ],
      },
    });
    assert.deepEqual(acked.json(), { acked: 2 });
    const beat = {
      method: "POST",
      url: "/api/v1/worker/heartbeat",
      payload: { wait_ms: 0 },
    } as const;
    assert.deepEqual((await send(beat)).json(), { action: "continue" });
    const bytes = {
      method: "PUT",
      url: "/api/v1/worker/artefacts/terminal.cast?offset=0",
      headers: { "content-type": "application/octet-stream" },
      payload: Buffer.from("recorded"),
    } as const;
    assert.equal((await send(bytes)).statusCode, 200);
    assert.equal(fixture.worker.artefact, "recorded");
    assert.equal((await send(bytes)).statusCode, 409);
    const traversal = await send({ ...bytes, url: "/api/v1/worker/artefacts/..%2fx?offset=0" });
    assert.equal(traversal.statusCode, 400);
    const enrol = { enrolment_token: "t".repeat(40) };
    assert.equal((await call.post("/api/v1/worker/enrol", enrol)).statusCode, 401);
  });
});

test("refusals", async (t) => {
  await using fixture = await openApiServices();
  const call = await openCaller(fixture);
  const bad: [string, object, RegExp][] = [
    ["a missing field", { ...TRIAL, agent: undefined }, /^body: missing field agent$/],
    ["an unknown field", { ...TRIAL, agnet: "aider" }, /^body: unknown field agnet$/],
    ["a wrong type", { ...TRIAL, priority: "1" }, /^body\.priority: must be integer$/],
    ["a negative limit", { ...TRIAL, limit_nanos: "-5" }, /^body\.limit_nanos: must match/],
    ["a number for money", { ...TRIAL, limit_nanos: 5 }, /^body\.limit_nanos: must be string$/],
    ["a bad name", { ...TRIAL, project: "../x" }, /^body\.project: must match/],
    ["an unknown agent", { ...TRIAL, agent: "nobody" }, /^agent: there is no agent nobody$/],
    [
      "a field missing inside",
      { ...TRIAL, task: { path: "/r", instruction: "i" } },
      /^body\.task: missing field test_command$/,
    ],
  ];
  for (const [index, [name, body, detail]] of bad.entries()) {
    await t.test(`${name} is named, and makes nothing`, async () => {
      const response = await call.post("/api/v1/trials", body, `bad-${index}`);
      assert.equal(response.statusCode, 400, response.body);
      assert.equal(response.headers["content-type"], "application/problem+json; charset=utf-8");
      assert.ok(Value.Check(ProblemBody, response.json()));
      assert.match(response.json().detail, detail);
      assert.equal(fixture.effects["trial"], undefined);
    });
  }

  const id = `trial_${"0".repeat(26)}`;
  const paths: [string, number][] = [
    ["/api/v1/nothing", 404],
    ["/api/v1/trials/nonsense", 404],
    [`/api/v1/trials/${id}`, 404],
    [`/api/v1/trials/${id}/events`, 404],
    [`/api/v1/trials/${id}/worker-log`, 404],
    [`/api/v1/trials/${id}/worker-log?output=both`, 400],
    [`/api/v1/trials/${id}/artefacts/absent.txt`, 404],
    [`/api/v1/trials/${id}/artefacts/..%2f..%2fetc%2fpasswd`, 404],
    ["/api/v1/trials?limit=0", 400],
    ["/api/v1/trials?limit=201", 400],
    ["/api/v1/trials?limit=1&limit=2", 400],
    ["/api/v1/trials?state=asleep", 400],
    ["/api/v1/trials?before=' or 1=1 --", 400],
    ["/api/v1/trials?experiment_id=trial_1", 400],
    ["/api/v1/trials?sort=id", 400],
    ["/api/v1/budgets/none", 404],
    ["/api/v1/budgets/demo?at=soon", 400],
    ["/api/v1/budgets/demo/costs?by=colour", 400],
    ["/api/v1/budgets/demo/export?format=xml", 400],
    ["/api/v1/budgets/demo/export?since=yesterday", 400],
    ["/api/v1/events?after_seq=-1", 400],
  ];
  for (const [path, status] of paths) {
    await t.test(`GET ${path} is ${status}`, async () => {
      const response = await call.get(encodeURI(path).replaceAll("%25", "%"));
      assert.equal(response.statusCode, status, response.body);
      assert.ok(Value.Check(ProblemBody, response.json()));
    });
  }

  await t.test("bodies that are no JSON, too large, polluted or of another type", async () => {
    const send = (payload: string, type = "application/json") =>
      call.api.inject({
        method: "POST",
        url: "/api/v1/trials",
        headers: { ...call.headers, "idempotency-key": "x", "content-type": type },
        payload,
      });
    assert.equal((await send("{")).statusCode, 400);
    assert.equal(
      (await send(JSON.stringify({ ...TRIAL, x: "y".repeat(1_100_000) }))).statusCode,
      413,
    );
    assert.equal((await send('{"__proto__":{"admin":true}}')).statusCode, 400);
    assert.equal((await send('{"constructor":{"prototype":{}}}')).statusCode, 400);
    assert.equal((await send("project: demo", "text/yaml")).statusCode, 400);
    assert.equal((await send("[".repeat(100_000))).statusCode, 400);
    assert.equal(fixture.effects["trial"], undefined);
  });

  await t.test("a defect's message stays inside", async () => {
    const response = await call.post("/api/v1/trials", { ...TRIAL, agent: "broken" }, "defect");
    assert.equal(response.statusCode, 500);
    assert.ok(!response.body.includes("must not be shown"));
    assert.equal(response.json().type, "/problems/internal");
  });

  await t.test("readiness names what is away", async () => {
    assert.equal((await call.get("/readyz")).statusCode, 200);
    fixture.readiness = { database: "it does not answer", scheduler: null };
    const response = await call.get("/readyz");
    assert.equal(response.statusCode, 503);
    assert.deepEqual(response.json(), {
      is_ready: false,
      dependencies: { database: "it does not answer", scheduler: null },
    });
  });
});

test("the OpenAPI document is the one we reviewed", async (t) => {
  await using fixture = await openApiServices();
  const call = await openCaller(fixture);
  const response = await call.get("/openapi.json");
  assert.equal(response.statusCode, 200);
  t.assert.fileSnapshot(response.json(), "test/golden/openapi.json");
  const docs = await call.get("/docs");
  assert.match(docs.body, /<code>POST \/api\/v1\/trials<\/code>/);
  assert.doesNotMatch(docs.body, /<script/);
});

async function openCaller(fixture: ApiFixture) {
  const api = createApi(fixture.services, { version: "0.0.0" });
  const headers = { authorization: `Bearer ${await fixture.access.issueCliToken()}` };
  return { api, headers, get, post };

  function get(url: string) {
    return api.inject({ url, headers });
  }

  function post(url: string, payload?: object, key?: string) {
    const keyed = key === undefined ? headers : { ...headers, "idempotency-key": key };
    return api.inject({ method: "POST", url, headers: keyed, ...(payload && { payload }) });
  }
}
