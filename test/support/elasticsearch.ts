/**
 * The real Elasticsearch for tests: one server for a test run, started by the first file that asks
 * for it and ended by the run's teardown.
 */
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rename, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { env } from "node:process";
import { after } from "node:test";
import {
  ENGINE,
  endElasticsearch,
  FOLDER_VARIABLE,
  isUp,
  type Running,
  startElasticsearch,
} from "./elasticsearch-server.ts";
import { eventually } from "./eventually.ts";
import { freePort } from "./free-port.ts";

/** For a test's `skip`: why, or false. Required engines are never skipped. */
export const elasticsearchSkip: string | false =
  existsSync(join(ENGINE, "java-home")) || env["AUTOCODE_REQUIRE_ENGINES"] === "all"
    ? false
    : "Elasticsearch is not installed: npm run engines elasticsearch";

let ofThisFile: Promise<string> | null = null;
let ownFolder: string | null = null;

// A file that runs alone ends what it started.
after(async () => {
  if (ownFolder !== null) await endElasticsearch(ownFolder);
});

/** The address of the run's server. */
export function elasticsearchUrl(): Promise<string> {
  ofThisFile ??= share();
  return ofThisFile;
}

async function share(): Promise<string> {
  let folder = env[FOLDER_VARIABLE];
  if (folder === undefined) {
    ownFolder = await mkdtemp(join(tmpdir(), "autocode-test-es-"));
    folder = ownFolder;
  }
  const told = join(folder, "running.json");
  // Whoever makes the folder starts it.
  const isFirst = await mkdir(join(folder, "data")).then(
    () => true,
    () => false,
  );
  if (isFirst) {
    const port = await freePort();
    const child = await startElasticsearch(folder, port, await freePort(), true);
    child.unref();
    const running: Running = { url: `http://127.0.0.1:${port}`, pid: child.pid ?? 0 };
    await writeFile(`${told}.new`, JSON.stringify(running));
    await rename(`${told}.new`, told);
  }
  const text = await eventually(
    () => readFile(told, "utf8").catch(() => null),
    (found) => found !== null,
  );
  const { url } = JSON.parse(text ?? "") as Running;
  await isUp(url);
  return url;
}
