/** Trials as Nomad jobs: the client, its certificates, and the job that an agent here needs. */
import { readFile } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import type { Config } from "./config.ts";
import type { NomadConfig } from "./config-engines.ts";
import type { Finding } from "./contract/system.ts";
import { Problem } from "./problem.ts";
import type { Layout } from "./projects/layout.ts";
import type { Log } from "./runtime/log.ts";
import { openNomadScheduler } from "./scheduler/nomad.ts";
import { createNomadClient } from "./scheduler/nomad-client.ts";
import { describeNomad } from "./scheduler/nomad-doctor.ts";
import { baseJob } from "./scheduler/nomad-job.ts";
import type { Scheduler } from "./scheduler/scheduler.ts";

export interface NomadWiring {
  config: Pick<Config, "workerEnv" | "isRoot">;
  layout: Pick<Layout, "agents">;
  /** Where workers reach the API; asked at each dispatch. */
  apiUrl: () => string;
  log: Log;
}

const ROOT = join(import.meta.dirname, "..");
const TIMES = {
  timeoutMs: 15_000,
  /** Two of Nomad's beats, and some. */
  silenceMs: 70_000,
  shareMs: 500,
  trustMs: 30_000,
  retryMs: 250,
  retryMaxMs: 5_000,
  compareMs: 30_000,
};

/** @throws Problem `invalid_request` naming the variable whose file cannot be read. */
export async function openNomad(
  { config, layout, apiUrl, log }: NomadWiring,
  nomad: NomadConfig,
): Promise<{ scheduler: Scheduler; describe(): Promise<Omit<Finding, "part">> }> {
  const { address, token, namespace, region, job } = nomad;
  const tls = {
    ca: await readPem("NOMAD_CACERT", nomad.caFile),
    cert: await readPem("NOMAD_CLIENT_CERT", nomad.certFile),
    key: await readPem("NOMAD_CLIENT_KEY", nomad.keyFile),
    serverName: nomad.tlsServerName,
  };
  const client = createNomadClient({ ...TIMES, address, token, namespace, region, tls });
  // Elsewhere our paths are nobody's, and an operator says what runs there.
  const builtIn = isLoopback(address)
    ? baseJob({
        name: job,
        namespace,
        command: [process.execPath, join(ROOT, "worker-agent/main.ts")],
        agentsDir: layout.agents,
        env: config.workerEnv,
      })
    : null;
  const installCommand =
    `nomad job run -var job_id=${job} -var namespace=${namespace} ` +
    `-var api_url=<where workers reach this orchestrator> nomad-jobs/trial.nomad.hcl`;
  const options = { ...TIMES, job, builtIn, installCommand, apiUrl };
  const scheduler = openNomadScheduler(client, options, log);
  const described = { address, namespace, region, job, installCommand, why: nomad.why };
  return {
    scheduler,
    describe: () =>
      describeNomad(client, {
        ...described,
        registersItself: builtIn !== null,
        trouble: scheduler.trouble,
      }),
  };
}

async function readPem(variable: string, path: string | null): Promise<string | null> {
  if (path === null) return null;
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Problem("invalid_request", `${variable}: ${path} cannot be read (${code})`, {
      cause: error,
    });
  }
}

function isLoopback(address: string): boolean {
  const host = new URL(address).hostname.replaceAll(/[[\]]/g, "");
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}
