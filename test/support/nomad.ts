/** A Nomad scheduler over the strict stub, whose workers are the tests' of the local one. */
import { join } from "node:path";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { type NomadOptions, openNomadScheduler } from "../../orchestrator/scheduler/nomad.ts";
import {
  createNomadClient,
  type NomadClientOptions,
} from "../../orchestrator/scheduler/nomad-client.ts";
import { baseJob } from "../../orchestrator/scheduler/nomad-job.ts";
import { openSchedulerFolder } from "./local-scheduler.ts";
import { openNomadStub, type StubOptions } from "./nomad-stub/stub.ts";

const NO_TLS = { ca: null, cert: null, key: null, serverName: null };

export interface NomadWorldOptions {
  stub?: Partial<StubOptions>;
  client?: Partial<NomadClientOptions>;
  options?: Partial<NomadOptions>;
}

/** The client of a test: short of patience. */
export function nomadClient(address: string, more: Partial<NomadClientOptions> = {}) {
  return createNomadClient({
    address,
    token: null,
    namespace: "default",
    region: null,
    tls: NO_TLS,
    timeoutMs: 5_000,
    silenceMs: 70_000,
    ...more,
  });
}

/** What a worker of the tests is to Nomad: `local-worker.ts`, taking its notes in `folder`. */
export function testJob(folder: string, job = "autocode-trial"): Readonly<Record<string, unknown>> {
  const worker = join(import.meta.dirname, "local-worker.ts");
  return baseJob({
    name: job,
    namespace: "default",
    command: [process.execPath, worker, folder],
    agentsDir: join(folder, "agents"),
    env: { PATH: "/usr/local/bin:/usr/bin:/bin" },
  });
}

export function nomadOptions(
  folder: string,
  { job = "autocode-trial", ...more }: Partial<NomadOptions> = {},
): NomadOptions {
  return {
    job,
    builtIn: testJob(folder, job),
    installCommand: "nomad job run nomad-jobs/trial.nomad.hcl",
    trustMs: 60_000,
    apiUrl: () => "http://127.0.0.1:1",
    shareMs: 50,
    retryMs: 10,
    retryMaxMs: 100,
    compareMs: 1_000,
    ...more,
  };
}

export type NomadWorld = Awaited<ReturnType<typeof openNomadWorld>>;

export async function openNomadWorld({ stub, client, options }: NomadWorldOptions = {}) {
  await using opening = new AsyncDisposableStack();
  const folder = opening.use(await openSchedulerFolder());
  const local = opening.use(await folder.open({ slots: 16 }));
  const nomad = opening.use(await openNomadStub({ local, ...stub }));
  const open = (more: NomadWorldOptions = {}) =>
    openNomadScheduler(
      nomadClient(nomad.address, { ...client, ...more.client }),
      nomadOptions(folder.path, { ...options, ...more.options }),
      createLog("silent"),
    );
  const scheduler = opening.use(open());
  const opened = opening.move();
  return {
    nomad,
    local,
    folder,
    scheduler,
    /** Another orchestrator's, on the same Nomad. */
    open,
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}
