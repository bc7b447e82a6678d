/** Runs a hostile script as the tests of a task, by a worker-agent in a process of its own. */
import type { Report } from "../../orchestrator/contract/worker.ts";
import { openWorkerOrchestrator } from "../support/worker-orchestrator.ts";
import { makeRepository, startWorker, verifySpec } from "../support/worker-world.ts";

/** The user of the slot that attacks: nobody else's on this machine. */
export const SLOT_UID = 3_000_031;
const WALL_MS = 45_000;

export interface AttackOptions {
  /** Null: as our own user. */
  runAs?: number | null;
  env?: Readonly<Record<string, string>>;
  files?: Record<string, string>;
}

export interface Attacked {
  /** What the script printed. */
  log: string;
  verdict: string;
  detail: string;
  allocationId: string;
  lastedMs: number;
  code: number | null;
  reports: number;
  /** What the worker-agent itself said. */
  errors: string;
}

export async function attack(
  folder: string,
  script: string,
  { runAs = SLOT_UID, env = {}, files = { "a.txt": "one\n" } }: AttackOptions = {},
): Promise<Attacked> {
  const { bundle, baseCommit } = makeRepository(folder, files);
  const limits = { wall_ms: WALL_MS, artefact_bytes: 4_000_000 };
  const test = { kind: "command", command: script } as const;
  const spec = verifySpec(baseCommit, { test, limits: { idle_ms: WALL_MS, ...limits } });
  await using orchestrator = await openWorkerOrchestrator({ spec, bundle });
  const startedMs = performance.now();
  const user = runAs === null ? {} : { AUTOCODE_RUN_AS: `${runAs}:${runAs}` };
  const worker = startWorker(orchestrator, { folder, env: { ...user, ...env } });
  const code = await worker.exited;
  const report = orchestrator.reports[0] as Extract<Report, { purpose: "verify" }> | undefined;
  return {
    log: orchestrator.artefact("verifier.log"),
    verdict: report?.verdict ?? "none",
    detail: report?.detail ?? "",
    allocationId: spec.allocation_id,
    lastedMs: performance.now() - startedMs,
    code,
    reports: orchestrator.reports.length,
    errors: worker.errors(),
  };
}
