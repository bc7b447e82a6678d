/**
 * The environment of the real engines (NOMAD_*), read with `config.ts`'s readers so that their
 * faults are told together with all others. Pure: it opens no file and no connection.
 */

export const SCHEDULERS = ["local", "fleet", "nomad"] as const;
export type SchedulerName = (typeof SCHEDULERS)[number];

export interface NomadConfig {
  /** Without a slash at its end. */
  address: string;
  token: string | null;
  namespace: string;
  /** Null: the region of the agent that is asked. */
  region: string | null;
  /** PEM files. */
  caFile: string | null;
  certFile: string | null;
  keyFile: string | null;
  /** The name that the server's certificate must have; null: the address's host. */
  tlsServerName: string | null;
  /** The parameterised job that trials are dispatched from; its variants' names begin with it. */
  job: string;
  /** What chose Nomad, for people. */
  why: string;
}

/** What `config.ts` reads a variable with; each notes a fault and goes on with a fallback. */
export interface Reader {
  text(name: string): string | undefined;
  address(name: string, pattern: RegExp): string | null;
  oneOf<Choice extends string>(name: string, choices: readonly Choice[], fallback: Choice): Choice;
  fault(message: string): void;
}

/** Nomad's own default, as its command line has it. */
const NOMAD_ADDRESS = "http://127.0.0.1:4646";
const JOB_NAME = /^[a-z0-9][a-z0-9-]{0,62}$/;

/** `AUTOCODE_SCHEDULER` decides; where it is not set, a Nomad address does. */
export function readScheduler({ text, oneOf }: Reader): SchedulerName {
  const implied = text("NOMAD_ADDR") === undefined ? "local" : "nomad";
  return oneOf("AUTOCODE_SCHEDULER", SCHEDULERS, implied);
}

/** Nomad's own variables, with its meanings; null when another scheduler was chosen. */
export function readNomad(read: Reader, scheduler: SchedulerName): NomadConfig | null {
  if (scheduler !== "nomad") return null;
  const { text } = read;
  const job = text("AUTOCODE_NOMAD_JOB") ?? "autocode-trial";
  if (!JOB_NAME.test(job)) {
    read.fault(`AUTOCODE_NOMAD_JOB: "${job}" must be up to 63 of a-z, 0-9 and -`);
  }
  const certFile = text("NOMAD_CLIENT_CERT") ?? null;
  const keyFile = text("NOMAD_CLIENT_KEY") ?? null;
  if ((certFile === null) !== (keyFile === null)) {
    read.fault("NOMAD_CLIENT_CERT and NOMAD_CLIENT_KEY: set both, or neither");
  }
  return {
    address: (read.address("NOMAD_ADDR", /^https?:\/\//) ?? NOMAD_ADDRESS).replace(/\/+$/, ""),
    token: text("NOMAD_TOKEN") ?? null,
    namespace: text("NOMAD_NAMESPACE") ?? "default",
    region: text("NOMAD_REGION") ?? null,
    caFile: text("NOMAD_CACERT") ?? null,
    certFile,
    keyFile,
    tlsServerName: text("NOMAD_TLS_SERVER_NAME") ?? null,
    job,
    why: `${text("AUTOCODE_SCHEDULER") === undefined ? "NOMAD_ADDR" : "AUTOCODE_SCHEDULER"} is set`,
  };
}
