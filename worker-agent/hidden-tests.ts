/** The hidden tests on the verifier's disk: unpacked beside the checkout, never in it. */
import { lstat, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { VerifySpec } from "../orchestrator/contract/worker.ts";
import type { RunAs } from "./config.ts";
import { handOver, type Rooms } from "./rooms.ts";
import { unpack } from "./unpack.ts";

/** Unpacks the archive into `rooms.tests`. @throws UnsafeArchive naming the entry. */
export async function placeHiddenTests(
  archive: string,
  rooms: Rooms,
  runAs: RunAs | null,
): Promise<void> {
  await unpack(archive, rooms.tests);
  await mapHarborPaths(rooms);
  await handOver(rooms.tests, runAs);
}

/** How the tests are run, or null when there is no such script. */
export async function testCommand(
  { test }: VerifySpec,
  { tests }: Rooms,
): Promise<{ file: string; args: string[] } | null> {
  if (test.kind === "command") return { file: "/bin/sh", args: ["-c", test.command] };
  const parts = test.path.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) return null;
  // A task names it from its own folder, `tests/test.sh`; the archive is of the tests folder.
  const candidates = [parts, parts[0] === "tests" ? parts.slice(1) : parts];
  for (const candidate of candidates) {
    const file = join(tests, ...candidate);
    if ((await lstat(file).catch(() => null))?.isFile()) return { file: "bash", args: [file] };
  }
  return null;
}

/** Harbor's scripts name the folders of its containers; here they are the real ones. */
const HARBOR_PATH = /(?<![\w./-])\/(app|tests|logs\/verifier|logs)(?![\w.-])/g;

/** The shell script with Harbor's absolute paths replaced. */
export function withRealPaths(script: string, { workspace, tests, logs }: Rooms): string {
  const real: Record<string, string> = { app: workspace, tests, logs, "logs/verifier": logs };
  return script.replaceAll(HARBOR_PATH, (whole, name: string) => real[name] ?? whole);
}

async function mapHarborPaths(rooms: Rooms): Promise<void> {
  const entries = await readdir(rooms.tests, { recursive: true, withFileTypes: true });
  for (const entry of entries) {
    if (!entry.isFile() || !entry.name.endsWith(".sh")) continue;
    const file = join(entry.parentPath, entry.name);
    const script = await readFile(file, "utf8");
    await writeFile(file, withRealPaths(script, rooms));
  }
}
