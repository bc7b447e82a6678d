/**
 * The real Elasticsearch for tests: one server for a test run, started by the first file that asks
 * for it and ended by the run's teardown; or one of a test's own, to be killed. By process id.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, open, readFile, rename, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { env } from "node:process";
import { after } from "node:test";
import { eventually } from "./eventually.ts";

const ENGINE = join(import.meta.dirname, "../../.engines/elasticsearch");
/** Where the run's files find one another's server. */
export const FOLDER_VARIABLE = "AUTOCODE_TEST_ELASTICSEARCH_DIR";
const START_WITHIN_MS = 60_000;
const FLAGS = [
  ...["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC"],
  "--add-modules=jdk.net,jdk.management.agent,ALL-MODULE-PATH",
];

/** For a test's `skip`: why, or false. Required engines are never skipped. */
export const elasticsearchSkip: string | false =
  existsSync(join(ENGINE, "java-home")) || env["AUTOCODE_REQUIRE_ENGINES"] === "all"
    ? false
    : "Elasticsearch is not installed: npm run engines elasticsearch";

export interface OwnElasticsearch extends AsyncDisposable {
  url: string;
  /** At once, as when its machine loses power. */
  kill(): Promise<void>;
  /** On the same port, with what it had. */
  restart(): Promise<void>;
}

interface Running {
  url: string;
  pid: number;
}

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
    const child = await start(folder, port, await freePort(), true);
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

/** Ends the server that the files of a run shared, if there is one, and removes its folder. */
export async function endElasticsearch(folder: string): Promise<void> {
  const text = await readFile(join(folder, "running.json"), "utf8").catch(() => null);
  if (text !== null) {
    const { pid } = JSON.parse(text) as Running;
    try {
      process.kill(pid, "SIGKILL");
      await eventually(
        () => isAlive(pid),
        (alive) => !alive,
      );
    } catch {
      // It ended by itself.
    }
  }
  await rm(folder, { recursive: true, force: true });
}

/** A server of one's own. */
export async function openElasticsearch(): Promise<OwnElasticsearch> {
  const folder = await mkdtemp(join(tmpdir(), "autocode-test-es-"));
  await mkdir(join(folder, "data"));
  const [port, transportPort] = [await freePort(), await freePort()];
  const url = `http://127.0.0.1:${port}`;
  let child = await start(folder, port, transportPort, false);
  await isUp(url);
  return {
    url,
    kill,
    restart,
    [Symbol.asyncDispose]: async () => {
      await kill();
      await rm(folder, { recursive: true, force: true });
    },
  };

  async function kill(): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
  }

  async function restart(): Promise<void> {
    await kill();
    child = await start(folder, port, transportPort, false);
    await isUp(url);
  }
}

async function start(
  folder: string,
  port: number,
  transportPort: number,
  isShared: boolean,
): Promise<ChildProcess> {
  const home = (await readFile(join(ENGINE, "java-home"), "utf8")).trim();
  const log = await open(join(folder, "log"), "a");
  const own = ["-p", join(ENGINE, "lib"), "-cp", join(ENGINE, "classes"), "ElasticsearchNode"];
  const ports = [String(port), String(transportPort)];
  const child = spawn(
    join(home, "bin/java"),
    [...FLAGS, ...own, join(ENGINE, "home"), join(folder, "data"), ...ports],
    { stdio: ["ignore", log.fd, log.fd], env: {}, detached: isShared },
  );
  await log.close();
  return child;
}

async function isUp(url: string): Promise<void> {
  const health = `${url}/_cluster/health?wait_for_status=yellow&timeout=1s`;
  await eventually(
    () =>
      fetch(health).then(
        ({ ok }) => ok,
        () => false,
      ),
    (ok) => ok,
    START_WITHIN_MS,
  );
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

function freePort(): Promise<number> {
  const server = createServer();
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" ? (address?.port ?? 0) : 0));
    });
  });
}
