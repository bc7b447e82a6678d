/**
 * Finds the processes of an allocation, wherever they moved to.
 *
 * CLIs run tools in sessions of their own, so that ending a process group is not enough. Every
 * child carries the allocation's marker in its environment; one that cleared its environment is
 * still known as a descendant of one that did not, or by its user where that user is the
 * allocation's own. Without `/proc` nothing is found, and ending the group is all there is.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";

export const MARKER_VARIABLE = "AUTOCODE_TRIAL";

/** A process, told apart from a later one with its number by the time it started. */
interface ProcessRow {
  readonly pid: number;
  readonly parent: number;
  readonly startedAt: string;
  readonly isZombie: boolean;
}

export interface Family {
  /** Every process of the allocation that runs now: known later even if it cuts its ties. */
  alive(): number[];
}

/**
 * The processes marked with `marker`, the descendants of any process seen so far, and all of
 * `exclusiveUid`, the user that no one else's processes run as.
 */
export function createFamily(marker: string, exclusiveUid: number | null): Family {
  const seen = new Map<number, string>();
  const needle = `${MARKER_VARIABLE}=${marker}`;
  return { alive };

  function alive(): number[] {
    const rows = processes();
    const members = new Set<number>();
    for (const row of rows) {
      const isKnown = seen.get(row.pid) === row.startedAt || isMarked(row.pid, needle);
      if (isKnown || (exclusiveUid !== null && userOf(row.pid) === exclusiveUid)) {
        members.add(row.pid);
      }
    }
    for (let grew = true; grew; ) {
      grew = false;
      for (const { pid, parent } of rows) {
        if (members.has(pid) || !members.has(parent)) continue;
        members.add(pid);
        grew = true;
      }
    }
    members.delete(process.pid);
    const found = rows.filter(({ pid }) => members.has(pid));
    for (const { pid, startedAt } of found) seen.set(pid, startedAt);
    return found.filter(({ isZombie }) => !isZombie).map(({ pid }) => pid);
  }
}

/** Whether any process runs as this user. */
export function isUserActive(uid: number): boolean {
  return processes().some(({ pid }) => userOf(pid) === uid);
}

function userOf(pid: number): number | null {
  return statSync(`/proc/${pid}`, { throwIfNoEntry: false })?.uid ?? null;
}

function isMarked(pid: number, needle: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/environ`, "latin1").split("\0").includes(needle);
  } catch {
    // Gone meanwhile, or another user's: not ours.
    return false;
  }
}

function processes(): ProcessRow[] {
  let names: string[];
  try {
    names = readdirSync("/proc");
  } catch {
    return [];
  }
  return names.flatMap((name) => {
    if (!/^[0-9]+$/.test(name) || Number(name) === process.pid) return [];
    try {
      // The command's name stands in parentheses and may hold any character, `)` included.
      const text = readFileSync(`/proc/${name}/stat`, "latin1");
      const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
      const [state, parent] = fields;
      const row = { pid: Number(name), parent: Number(parent), startedAt: fields[19] ?? "" };
      return [{ ...row, isZombie: state === "Z" || state === "X" }];
    } catch {
      return [];
    }
  });
}

/** Sends a signal; a process that is gone, or that we may not signal, is passed over. */
export function signalQuietly(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // ESRCH or EPERM: nothing that we could do more.
  }
}
