/** The PostgreSQL server of a test run: real, in a temporary folder, without waiting for disks. */
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Server, startServer } from "../../orchestrator/db/server.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";

/** Where the run's global set-up says which server to use. */
export const URL_VARIABLE = "AUTOCODE_TEST_DATABASE_URL";

/** A server that is gone, with its folder, when it is disposed of. */
export async function startTestServer(): Promise<Pick<Server, "url"> & AsyncDisposable> {
  const dir = await mkdtemp(join(tmpdir(), "autocode-test-db-"));
  // When the tests run as root, the server runs as another user.
  await chmod(dir, 0o755);
  const server = await startServer({
    dir: join(dir, "postgres"),
    log: createLog("error"),
    settings: { fsync: "off", max_connections: "300", shared_buffers: "64MB" },
  }).catch(async (error: unknown) => {
    await rm(dir, { recursive: true, force: true });
    throw error;
  });
  return {
    url: server.url,
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      await rm(dir, { recursive: true, force: true });
    },
  };
}
