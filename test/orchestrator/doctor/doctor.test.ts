/**
 * Goal: the doctor names what is in force, what is missing and the next step for it; readiness
 * says that the database is gone, and soon.
 *
 * Method: a real database, taken away; installer and pairs stand where the outside is.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Finding, PairStatus } from "../../../orchestrator/contract/system.ts";
import { openPostgresDatabase } from "../../../orchestrator/db/postgres.ts";
import { createDoctor, type DoctorDependencies } from "../../../orchestrator/doctor/doctor.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { AGENTS } from "../../../worker-agent/agents/registry.ts";
import { openTrialLife } from "../../support/trial-life.ts";

const FACTS = AGENTS.map(({ facts }) => facts);

function pair(
  name: string,
  next: string | null,
  agents: PairStatus["agents"] = [{ agent: "aider", verdict: "sound", reasons: [] }],
): PairStatus {
  const models = { normal: `${name}-n`, thinking: `${name}-t`, provider: name, is_scripted: false };
  const detail = next ?? `${name} is ready`;
  return { name, ...models, is_available: next === null, detail, agents };
}

const BLIND = { kind: "plans_blind", detail: "r1 calls no tools" } as const;
const FULL = { kind: "no_room", detail: "the prompt takes 9 of 10" } as const;

function dependencies(
  db: DoctorDependencies["db"],
  databaseUrl: string | null = null,
): DoctorDependencies {
  return {
    db,
    config: { home: "/home/me/.autocode", isRoot: true, databaseUrl },
    describeScheduler: async () => ({ status: "warn", detail: "nomad: alone", next_step: "nomad" }),
    installer: {
      facts: FACTS,
      install: async () => {},
      installedVersion: async (name) => (name === "aider" ? "0.86.1" : null),
    },
    pairs: {
      list: () => [
        pair("scripted", null),
        pair("coder-7b", "set VLLM_BASE_URL"),
        pair("openai", "set OPENAI_API_KEY"),
        pair("coder-32b", "set VLLM_BASE_URL", [
          { agent: "codex", verdict: "unsound", reasons: [FULL] },
        ]),
        pair("coder-14b", null, [
          { agent: "codex", verdict: "limited", reasons: [BLIND] },
          { agent: "aider", verdict: "sound", reasons: [] },
          { agent: "opencode", verdict: "limited", reasons: [BLIND] },
        ]),
        pair("coder-3b", null, [
          { agent: "qwen-code", verdict: "unsound", reasons: [BLIND, FULL] },
        ]),
      ],
    } as unknown as DoctorDependencies["pairs"],
    gateway: { metrics: async () => "autocode_gateway_calls 0\n" },
    closedToAgents: async () => null,
    probeIsolation: async () => null,
    journal: {
      status: async () => ({
        key: { key_id: "ed25519:k", fingerprint: "SHA256:f", public_key: "PEM" },
        ...{ sealed: 3, unsealed: 1, checkpoints: 1 },
        last_signed_at: "2026-11-21T12:00:00.000000Z",
      }),
    },
    secrets: { name: "file" },
  };
}

function find(findings: Finding[], part: string): Finding | undefined {
  return findings.find((finding) => finding.part === part);
}

test("the doctor", async (t) => {
  await using life = await openTrialLife({});
  const { database } = life.world;

  await t.test("findings: what is in force, and the next step for what is not", async () => {
    const findings = await createDoctor(dependencies(database)).doctor();
    const { version } = database;
    assert.equal(find(findings, "node")?.detail, `${process.version} at ${process.execPath}`);
    assert.match(find(findings, "git")?.detail ?? "", /^git version \d/);
    assert.deepEqual(find(findings, "database"), {
      part: "database",
      status: "ok",
      detail: `${database.name} PostgreSQL ${version}; DATABASE_URL is not set`,
      next_step: null,
    });
    const scheduler = { part: "scheduler", status: "warn", detail: "nomad: alone" } as const;
    assert.deepEqual(find(findings, "scheduler"), { ...scheduler, next_step: "nomad" });
    assert.equal(find(findings, "data folder")?.detail, "/home/me/.autocode");
    const [installed, absent] = ["aider", "qwen-code"].map((name) =>
      find(findings, `agent ${name}`),
    );
    assert.deepEqual([installed?.status, installed?.detail], ["ok", "0.86.1"]);
    assert.deepEqual(absent, {
      part: "agent qwen-code",
      status: "warn",
      detail: "not installed",
      next_step: "autocode agent install qwen-code",
    });
    assert.equal(findings.filter(({ part }) => part.startsWith("agent ")).length, FACTS.length);
    assert.equal(find(findings, "pair scripted")?.status, "ok");
    const waiting = findings.filter(({ part }) => part === "pairs");
    assert.deepEqual(
      waiting.map(({ status, detail, next_step }) => [status, detail, next_step]),
      [
        ["warn", "not set up: coder-7b, coder-32b", "set VLLM_BASE_URL"],
        ["warn", "not set up: openai", "set OPENAI_API_KEY"],
      ],
    );
    assert.deepEqual(
      findings.filter(({ part }) => part.startsWith("agents on ")),
      [
        {
          part: "agents on coder-14b",
          status: "ok",
          detail: "limited: codex, opencode (r1 calls no tools). sound: aider",
          next_step: null,
        },
        {
          part: "agents on coder-3b",
          status: "warn",
          detail: "unsound: qwen-code (r1 calls no tools; the prompt takes 9 of 10)",
          next_step: "choose another pair for the unsound: autocode model ls",
        },
      ],
    );
    for (const { status, part, next_step } of findings) {
      assert.ok(status !== "missing" || next_step !== null, `${part} says what to do`);
    }
  });

  await t.test("a database's address is never shown: it may hold a password", async () => {
    const databaseUrl = "postgres://me:hunter2@db/autocode";
    const findings = await createDoctor(dependencies(database, databaseUrl)).doctor();
    assert.match(find(findings, "database")?.detail ?? "", /DATABASE_URL is set$/);
    assert.ok(!JSON.stringify(findings).includes("hunter2"));
  });

  await t.test("metrics count trials by state, with the gateway's after them", async () => {
    await life.create();
    await life.trials.cancel(await life.create());
    await life.engine.advance();
    const lines = (await createDoctor(dependencies(database)).metrics()).split("\n");
    assert.deepEqual(
      lines.filter((line) => !line.startsWith("#")),
      [
        'autocode_trial_states{state="cancelled"} 1',
        'autocode_trial_states{state="placed"} 1',
        "autocode_gateway_calls 0",
        "",
      ],
    );
  });
});

test("readiness says that the database is gone, and nothing of where it was", async () => {
  const life = await openTrialLife({});
  const { url } = life.world.database;
  await using database = await openPostgresDatabase({ url, log: createLog("silent") });
  const { readiness } = createDoctor(dependencies(database));
  assert.deepEqual(await readiness(), { database: null });
  // Dropped with force: the server ends every connection to it.
  await life[Symbol.asyncDispose]();
  assert.deepEqual(await readiness(), { database: "does not answer" });
});
