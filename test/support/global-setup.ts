/**
 * Before and after a whole test run (`node --test --test-global-setup`): one PostgreSQL server,
 * which every test file finds through its environment, and a place for one Elasticsearch, which
 * the first file that wants it starts.
 */
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { endElasticsearch, FOLDER_VARIABLE } from "./elasticsearch-server.ts";
import { startTestServer, URL_VARIABLE } from "./server.ts";

let server: AsyncDisposable | null = null;

export async function globalSetup(): Promise<void> {
  const started = await startTestServer();
  process.env[URL_VARIABLE] = started.url;
  process.env[FOLDER_VARIABLE] = await mkdtemp(join(tmpdir(), "autocode-test-es-"));
  server = started;
}

export async function globalTeardown(): Promise<void> {
  await server?.[Symbol.asyncDispose]();
  const folder = process.env[FOLDER_VARIABLE];
  if (folder !== undefined) await endElasticsearch(folder);
}
