/** The real Elasticsearch for tests as a process: started, ended by its id, killed, restarted. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, mkdtemp, open, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "./eventually.ts";
import { freePort } from "./free-port.ts";

/** Where the engine lies that `npm run engines` installed. */
export const ENGINE = join(import.meta.dirname, "../../.engines/elasticsearch");
/** Where the run's files find one another's server. */
export const FOLDER_VARIABLE = "AUTOCODE_TEST_ELASTICSEARCH_DIR";
const START_WITHIN_MS = 120_000;
const FLAGS = [
  ...["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC"],
  "--add-modules=jdk.net,jdk.management.agent,ALL-MODULE-PATH",
];

export interface OwnElasticsearch extends AsyncDisposable {
  url: string;
  /** At once, as when its machine loses power. */
  kill(): Promise<void>;
  /** On the same port, with what it had. */
  restart(): Promise<void>;
}

export interface Running {
  url: string;
  pid: number;
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
  let child = await startElasticsearch(folder, port, transportPort, false);
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
    child = await startElasticsearch(folder, port, transportPort, false);
    await isUp(url);
  }
}

/** With its data, its log and nothing else in `folder`. */
export async function startElasticsearch(
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

/** Resolves once it answers. */
export async function isUp(url: string): Promise<void> {
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
