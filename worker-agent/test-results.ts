/**
 * What the tests wrote to their logs folder. The code under test could write there too: only plain
 * files are read, none through a link, and none that is large.
 */
import { constants } from "node:fs";
import { open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { type Reward, readReward } from "./reward.ts";
import { readJUnit, readTap, sumCounts, type TestCounts } from "./test-report.ts";

const REPORT_BYTES_MAX = 16 * 1_048_576;
const REWARD_BYTES_MAX = 65_536;
const REPORTS_MAX = 100;

/** The reward file's word. */
export async function rewardIn(logs: string): Promise<Reward> {
  const text = await readPlainFile(join(logs, "reward.txt"), REWARD_BYTES_MAX);
  return readReward(text, await readPlainFile(join(logs, "reward.json"), REWARD_BYTES_MAX));
}

/** Reports in the logs folder come first; the output is looked at when there are none. */
export async function countTests(logs: string, stdout: string): Promise<TestCounts | null> {
  const names = (await readdir(logs).catch(() => [])).toSorted().slice(0, REPORTS_MAX);
  const reports: (TestCounts | null)[] = [];
  for (const name of names) {
    const reader = name.endsWith(".xml") ? readJUnit : name.endsWith(".tap") ? readTap : null;
    if (reader === null) continue;
    reports.push(reader((await readPlainFile(join(logs, name), REPORT_BYTES_MAX)) ?? ""));
  }
  return sumCounts(reports) ?? readTap(stdout) ?? readJUnit(stdout);
}

/** A plain file's text; null when it is a link, something else, too large or not there. */
async function readPlainFile(path: string, bytesMax: number): Promise<string | null> {
  // Without O_NONBLOCK, opening a pipe that the tests left there would wait for ever.
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const file = await open(path, flags).catch(() => null);
  if (file === null) return null;
  try {
    const { size } = await file.stat();
    if (!(await file.stat()).isFile() || size > bytesMax) return null;
    return await file.readFile("utf8");
  } finally {
    await file.close();
  }
}
