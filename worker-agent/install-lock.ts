/**
 * One installer at a time for each agent, between processes of one machine.
 *
 * Every contender puts up a flag, an empty folder named after its process; whoever then sees no
 * other live flag holds the lock. The lowest of the contenders keeps its flag up while it waits
 * and the others take theirs down, so two never wait for each other. A flag whose process is gone
 * is stale and anyone may remove it: names are never used twice, so it is nobody else's.
 */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

const FLAG_PREFIX = ".lock-";
const POLL_MS = 200;

/** Waits for the lock of `folder`, however long its holder lives; answers its release. */
export async function takeInstallLock(
  folder: string,
  signal?: AbortSignal,
): Promise<() => Promise<void>> {
  const owner = `${process.pid}-${(await startedAt(process.pid)) ?? "unknown"}`;
  let flag: string | null = null;
  try {
    for (;;) {
      signal?.throwIfAborted();
      flag ??= await mkdtemp(join(folder, `${FLAG_PREFIX}${owner}-`));
      const own = basename(flag);
      const rivals = await liveFlags(folder, own);
      if (rivals.length === 0) {
        const held = flag;
        return () => rm(held, { recursive: true, force: true });
      }
      if (rivals.some((rival) => rival < own)) {
        await rm(flag, { recursive: true, force: true });
        flag = null;
      }
      await delay(POLL_MS, undefined, signal && { signal });
    }
  } catch (error) {
    if (flag !== null) await rm(flag, { recursive: true, force: true });
    throw error;
  }
}

async function liveFlags(folder: string, own: string): Promise<string[]> {
  const live: string[] = [];
  for (const entry of await readdir(folder)) {
    if (!entry.startsWith(FLAG_PREFIX) || entry === own) continue;
    if (await isAlive(entry)) live.push(entry);
    else await rm(join(folder, entry), { recursive: true, force: true });
  }
  return live;
}

async function isAlive(flag: string): Promise<boolean> {
  const [pid = "", started = ""] = flag.slice(FLAG_PREFIX.length).split("-");
  if (!/^\d+$/.test(pid)) return false;
  try {
    process.kill(Number(pid), 0);
  } catch (error) {
    // EPERM: it lives, as another user.
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
  // The number may have gone to another process since.
  const nowStarted = await startedAt(Number(pid));
  return nowStarted === null || started === "unknown" || nowStarted === started;
}

/** When a process started, in ticks since boot; null where the system does not tell. */
async function startedAt(pid: number): Promise<string | null> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8");
    // Field 22; the second, the program's name, may hold spaces and parentheses.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? null;
  } catch {
    return null;
  }
}
