/**
 * Keeps the allowance file of an allocation up to date with what the orchestrator's answers say.
 *
 * Invariant: whoever reads the file reads all of one allowance; the agent cannot write it where it
 * runs as a user of its own.
 */
import { copyFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Allowance } from "../orchestrator/contract/worker.ts";
import { type AllowancePlaces, allowanceFile } from "./allowance.ts";
import type { Clock } from "./clock.ts";
import { messageOf } from "./faults.ts";
import type { Outbox } from "./outbox.ts";

/** Of the trial's budget; passing one is told of. */
const MARKS_PERCENT = [50, 80, 90, 95, 100] as const;

export interface AllowanceKeeper {
  /** Puts the file and its server into `dir`, a folder of ours. */
  openIn(dir: string, allowance: Allowance): Promise<AllowancePlaces>;
  /** What the orchestrator says now. Never throws: an agent works without it too. */
  tell(allowance: Allowance): Promise<void>;
}

/** A keeper that knows nothing yet; what it is told before it is opened is the file's first. */
export function createAllowanceKeeper(clock: Clock, outbox: Outbox): AllowanceKeeper {
  let file: string | null = null;
  let newest: Allowance | null = null;
  let passedPercent = 0;
  return { openIn, tell };

  async function openIn(dir: string, allowance: Allowance): Promise<AllowancePlaces> {
    // A copy, since the agent's user may not reach our own folder; .mts: no package.json says so.
    const server = join(dir, "allowance-tool.mts");
    await copyFile(join(import.meta.dirname, "allowance-tool.ts"), server);
    file = join(dir, "allowance.json");
    newest ??= allowance;
    passedPercent = newest.percent_used;
    await write(file, newest);
    return { file, server: { command: process.execPath, args: [server, file] } };
  }

  async function tell(allowance: Allowance): Promise<void> {
    newest = allowance;
    if (file === null) return;
    try {
      await write(file, allowance);
    } catch (error) {
      const message = `the allowance file was not written: ${messageOf(error)}`;
      outbox.emit("trial.note", { level: "warn", message });
      return;
    }
    const { percent_used: percent } = allowance;
    const passed = MARKS_PERCENT.filter((mark) => passedPercent < mark && mark <= percent);
    passedPercent = percent;
    const highest = passed.at(-1);
    if (highest === undefined) return;
    outbox.emit("worker.step", { step: "allowance_told", detail: `${highest} % used` });
  }

  async function write(path: string, allowance: Allowance): Promise<void> {
    const next = `${path}.next`;
    await rm(next, { force: true });
    await writeFile(next, allowanceFile(allowance, clock.now()), { mode: 0o644, flag: "wx" });
    await rename(next, path);
  }
}
