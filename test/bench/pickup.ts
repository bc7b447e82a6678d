/**
 * Bench: from asking for a trial to its claim (the lease is committed) by an engine that sleeps
 * until the database notifies it. The server is one of its own, with disk flushes on. Each trial
 * is made when the engine is idle, and ended before the next.
 *
 *     node test/bench/pickup.ts [--json] [--trials=100]
 */

import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { sql } from "drizzle-orm";
import { loadCatalog } from "../../models/catalog.ts";
import { createKeys } from "../../orchestrator/keys/postgres.ts";
import { createLedger } from "../../orchestrator/ledger/postgres.ts";
import { createDays } from "../../orchestrator/projects/day.ts";
import { createLayout } from "../../orchestrator/projects/layout.ts";
import { createProjects } from "../../orchestrator/projects/postgres.ts";
import { systemClock as clock } from "../../orchestrator/runtime/clock.ts";
import { createIds } from "../../orchestrator/runtime/ids.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { systemRandom as random } from "../../orchestrator/runtime/random.ts";
import type { Scheduler } from "../../orchestrator/scheduler/scheduler.ts";
import { createTasks } from "../../orchestrator/tasks/tasks.ts";
import { createCatalogPairs } from "../../orchestrator/trials/catalog-pairs.ts";
import { createEngine } from "../../orchestrator/trials/engine.ts";
import { createEnrolments } from "../../orchestrator/trials/enrolment.ts";
import { createTrials } from "../../orchestrator/trials/postgres.ts";
import { createSteps } from "../../orchestrator/trials/steps.ts";
import { openWakes } from "../../orchestrator/trials/wakes.ts";
import { AGENTS } from "../../worker-agent/agents/registry.ts";
import { openTestEmbedded, openTestFolder } from "../support/embedded.ts";
import { createMemoryTraffic } from "../support/memory-traffic.ts";
import { testSecrets } from "../support/secrets.ts";

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    trials: { type: "string", default: "100" },
  },
});
const WARM_UP = 10;
const P50_LIMIT_MS = 20;
const P95_LIMIT_MS = 50;

const ids = createIds(clock, random);
await using folder = await openTestFolder();
await using db = await openTestEmbedded(join(folder.path, "postgres"));
await using wakes = await openWakes(db);
const layout = createLayout(join(folder.path, "home"));
const scripted = {
  name: "scripted",
  baseUrl: "http://127.0.0.1:1",
  apiKey: null,
  authStyle: "bearer",
  isHosted: false,
  hasContinuousUsage: true,
  hasTokenCount: true,
} as const;
const catalog = await loadCatalog(join(import.meta.dirname, "../../models"));
const pairs = createCatalogPairs(
  catalog,
  () => [scripted],
  () => null,
  clock,
);
const ledger = createLedger(db, clock);
const ledgerIn = (tx: Parameters<typeof createLedger>[0]) => createLedger(tx, clock);
const days = createDays({ db, ledgerIn, ids, clock });
const tasks = createTasks(db, layout, clock, ids);
const agents = AGENTS.map(({ facts }) => facts);
const funds = { db, ledger, ledgerIn };
const projects = createProjects({ ...funds, tasks, days, pairs, agents, clock, ids });
const shared = { db, ledger, projects, clock, ids, random };
const trials = createTrials({
  ...{ ...shared, tasks, pairs, agents, wakes, layout },
  traffic: createMemoryTraffic(),
});
const scheduler: Scheduler = {
  name: "bench",
  place: async () => {},
  status: async () => "running",
  stop: async () => {},
  capacity: async () => 1_000,
  hosts: async () => [],
  drain: async () => {},
  logs: async () => null,
  onEnd: () => ({ [Symbol.dispose]: () => {} }),
  [Symbol.asyncDispose]: async () => {},
};
const enrolments = createEnrolments({ db, secrets: await testSecrets(), clock, random });
const steps = createSteps(
  { ...shared, keys: createKeys(db, clock, ids, random), scheduler, enrolments },
  { staleMs: 600_000, stopGraceMs: 600_000, retryDelayMs: 1_000 },
);
let onClaimed: (atMs: number) => void = () => {};
let onAdmitted: () => void = () => {};
const engine = createEngine(
  {
    db,
    scheduler,
    wakes,
    log: createLog("silent"),
    steps: {
      advance: async (trial) => {
        if (trial.state === "queued") onClaimed(performance.now());
        const hasMoved = await steps.advance(trial);
        if (trial.state === "queued" && hasMoved) onAdmitted();
        return hasMoved;
      },
    },
  },
  // No poll in between: what is measured is the wake.
  { leaseMs: 60_000, pollMs: 600_000, concurrency: 4 },
);

await writeTask();
const file_text = `project: bench\ncurrency: CAD\nbudget: { total: 1000, per_trial: 0.01 }\n`;
await projects.apply({
  file_name: "autocode.yaml",
  folder: folder.path,
  file_text: `${file_text}tasks: [task]\n`,
});
engine.start();
const tookMs: number[] = [];
for (let index = 0; index < WARM_UP + Number(values.trials); index++) {
  const took = await pickUp();
  if (index >= WARM_UP) tookMs.push(took);
}
await engine[Symbol.asyncDispose]();
report();

/** One trial at a time, so that the next admission is this one's. */
async function pickUp(): Promise<number> {
  let claimedMs = 0;
  onClaimed = (atMs) => {
    claimedMs = atMs;
  };
  const admitted = new Promise<void>((resolve) => {
    onAdmitted = resolve;
  });
  const startMs = performance.now();
  const cell = { project: "bench", agent: "qwen-code", pair: "scripted", task: "task" };
  const { id } = await trials.create(cell);
  await admitted;
  await db.sql.execute(sql`
    update trial set state = 'cancelled', ended_at = updated_at where id = ${id}`);
  return claimedMs - startMs;
}

async function writeTask(): Promise<void> {
  const task = join(folder.path, "task");
  await mkdir(join(task, "tests"), { recursive: true });
  await mkdir(join(task, "environment"));
  await writeFile(join(task, "task.toml"), "");
  await writeFile(join(task, "instruction.md"), "Do it.\n");
  await writeFile(join(task, "tests/test.sh"), "exit 0\n");
  await writeFile(join(task, "environment/a.txt"), "a\n");
}

function report(): void {
  const sorted = tookMs.toSorted((a, b) => a - b);
  const at = (part: number) => sorted[Math.floor(sorted.length * part)] ?? 0;
  const bars = [
    { name: "p50", value: at(0.5), limit: P50_LIMIT_MS },
    { name: "p95", value: at(0.95), limit: P95_LIMIT_MS },
  ];
  const print = (line: string) => process.stdout.write(`${line}\n`);
  if (!values.json) print("trial pickup   measured       bar   pass");
  for (const { name, value, limit } of bars) {
    const rounded = Number(value.toPrecision(3));
    const pass = rounded <= limit;
    if (values.json) {
      const unit = `ms ${name}, enqueue to claim`;
      print(JSON.stringify({ bar: "P9", value: rounded, unit, limit, pass, peers: {} }));
      continue;
    }
    const cells = [name.padEnd(14), `${rounded} ms`.padStart(8), `${limit} ms`.padStart(9)];
    print([...cells, pass ? "  yes" : "  no"].join(" "));
  }
}
