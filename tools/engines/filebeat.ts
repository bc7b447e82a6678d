/**
 * Filebeat for tests, into `.engines/filebeat/`: Elastic's own source (the part under Apache-2.0),
 * by Go's module proxy, built here. Only when asked for by name: it is six minutes of a processor's
 * time, with up to 3 GB of memory. `tools/filebeat` pins it, and all that it needs, by hashes.
 * Idempotent.
 */
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { env } from "node:process";
import { run } from "./run.ts";

const SOURCE = join(import.meta.dirname, "../filebeat");
const PROGRAM = "github.com/elastic/beats/v7/filebeat";
const PINNED = /^\s*(?:require )?github\.com\/elastic\/beats\/v7 (\S+)$/m;

/** @throws Error when there is no Go that is new enough, or it cannot be built. */
export async function installFilebeat(dir: string, tell: (line: string) => void): Promise<void> {
  const [, version = ""] = PINNED.exec(await readFile(join(SOURCE, "go.mod"), "utf8")) ?? [];
  const marker = join(dir, "version");
  const there = await readFile(marker, "utf8").catch(() => "");
  if (version !== "" && there.trim() === version) {
    tell(`filebeat: ${version} is there`);
    return;
  }
  tell(`filebeat: building ${version}; this takes long`);
  await rm(dir, { recursive: true, force: true });
  await mkdir(dir, { recursive: true });
  const binary = join(dir, "filebeat");
  // One package at a time and last in line: whoever else works here goes first.
  await run(
    "nice",
    [
      ...["-n", "15", "env", "CGO_ENABLED=0", "GOTOOLCHAIN=local", "GOFLAGS=-mod=readonly"],
      `PATH=${env["PATH"]}:/usr/local/go/bin`,
      ...["go", "build", "-p", "1", "-trimpath", "-ldflags", "-s -w", "-o", binary, PROGRAM],
    ],
    SOURCE,
  );
  await run(binary, ["version"], dir);
  await writeFile(marker, `${version}\n`);
  tell(`filebeat: installed ${version}`);
}
