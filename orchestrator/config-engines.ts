/**
 * The environment of the real engines (NOMAD_*, VAULT_*), read with `config.ts`'s readers so that
 * their faults are told together with all others. Pure: it opens no file and no connection.
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

export const SECRETS_ENGINES = ["file", "vault", "env"] as const;

export interface SecretsConfig {
  engine: (typeof SECRETS_ENGINES)[number];
  /** What chose the engine, for people. */
  why: string;
  /** What a sealed file is opened with; both null: with the key file beside it. */
  passphrase: string | null;
  passphraseFile: string | null;
  vault: VaultConfig | null;
  /** AUTOCODE_SECRET_* and the signing key, where the environment is the engine. */
  env: Readonly<Record<string, string>>;
}

export interface VaultConfig {
  /** Without a slash at its end. */
  address: string;
  namespace: string | null;
  /** PEM. */
  caFile: string | null;
  timeoutMs: number;
  login:
    | { kind: "token"; token: string }
    | { kind: "token_file"; file: string }
    | {
        kind: "approle";
        mount: string;
        roleId: string;
        secretId: { value: string } | { file: string };
      }
    | { kind: "jwt"; mount: string; role: string; file: string };
  kvMount: string;
  prefix: string;
  transitMount: string;
  transitKey: string;
  scopedRole: string;
}

/** What `config.ts` reads a variable with; each notes a fault and goes on with a fallback. */
export interface Reader {
  text(name: string): string | undefined;
  integer(name: string, fallback: number, min: number, max: number): number;
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

/** `AUTOCODE_SECRETS` decides; where it is not set, a Vault's address does. */
export function readSecrets(
  read: Reader,
  env: Readonly<Record<string, string | undefined>>,
): SecretsConfig {
  const { text, oneOf } = read;
  const hasVault = text("VAULT_ADDR") !== undefined;
  const engine = oneOf("AUTOCODE_SECRETS", SECRETS_ENGINES, hasVault ? "vault" : "file");
  const isSaid = text("AUTOCODE_SECRETS") !== undefined;
  const implied = hasVault ? "VAULT_ADDR is set" : "VAULT_ADDR is not set";
  const passphrase = text("AUTOCODE_SECRETS_PASSPHRASE") ?? null;
  const passphraseFile = text("AUTOCODE_SECRETS_PASSPHRASE_FILE") ?? null;
  if (passphrase !== null && passphraseFile !== null) {
    read.fault("AUTOCODE_SECRETS_PASSPHRASE and AUTOCODE_SECRETS_PASSPHRASE_FILE: set one of them");
  }
  const own = Object.entries(env).filter(
    (entry): entry is [string, string] =>
      entry[1] !== undefined && /^AUTOCODE_(SECRET_.+|SIGNING_KEY)$/.test(entry[0]),
  );
  return {
    engine,
    why: isSaid ? `AUTOCODE_SECRETS is ${engine}` : implied,
    passphrase,
    passphraseFile,
    vault: engine === "vault" ? readVault(read) : null,
    env: engine === "env" ? Object.fromEntries(own) : {},
  };
}

/** Vault's own variables, with its meanings. */
function readVault(read: Reader): VaultConfig {
  const { text } = read;
  const address = read.address("VAULT_ADDR", /^https?:\/\//);
  if (address === null) read.fault("VAULT_ADDR: AUTOCODE_SECRETS is vault, so it must be set");
  if (text("VAULT_SKIP_VERIFY") !== undefined) {
    read.fault(
      "VAULT_SKIP_VERIFY: certificates are always checked: set VAULT_CACERT, and unset it",
    );
  }
  return {
    address: (address ?? "http://127.0.0.1:8200").replace(/\/+$/, ""),
    namespace: text("VAULT_NAMESPACE") ?? null,
    caFile: text("VAULT_CACERT") ?? null,
    timeoutMs: read.integer("AUTOCODE_VAULT_TIMEOUT_MS", 5_000, 100, 60_000),
    login: readVaultLogin(read),
    kvMount: place("AUTOCODE_VAULT_KV", "secret"),
    prefix: place("AUTOCODE_VAULT_PREFIX", "autocode"),
    transitMount: place("AUTOCODE_VAULT_TRANSIT", "transit"),
    transitKey: place("AUTOCODE_VAULT_KEY", "autocode"),
    scopedRole: "autocode-scoped",
  };

  function place(name: string, fallback: string): string {
    const value = text(name) ?? fallback;
    if (!/^[\w-]+(\/[\w-]+)*$/.test(value)) {
      read.fault(`${name}: "${value}" must be words of a-z, 0-9, _ and - with slashes between`);
    }
    return value;
  }
}

function readVaultLogin({ text, fault }: Reader): VaultConfig["login"] {
  const roleId = text("VAULT_ROLE_ID");
  const secretId = text("VAULT_SECRET_ID");
  const secretIdFile = text("VAULT_SECRET_ID_FILE");
  const jwtFile = text("VAULT_JWT_FILE");
  const tokenFile = text("VAULT_TOKEN_FILE");
  const token = text("VAULT_TOKEN");
  const mount = text("VAULT_AUTH_MOUNT");
  if (roleId !== undefined) {
    if ((secretId === undefined) === (secretIdFile === undefined)) {
      fault("VAULT_ROLE_ID: set VAULT_SECRET_ID_FILE or VAULT_SECRET_ID with it, one of them");
    }
    const given = secretIdFile === undefined ? { value: secretId ?? "" } : { file: secretIdFile };
    return { kind: "approle", mount: mount ?? "approle", roleId, secretId: given };
  }
  if (jwtFile !== undefined) {
    const role = text("VAULT_AUTH_ROLE") ?? "autocode-orchestrator";
    return { kind: "jwt", mount: mount ?? "jwt-nomad", role, file: jwtFile };
  }
  if (tokenFile !== undefined) return { kind: "token_file", file: tokenFile };
  if (token === undefined) {
    fault(
      "VAULT_ADDR: say how to log in: VAULT_ROLE_ID and VAULT_SECRET_ID_FILE, VAULT_JWT_FILE, " +
        "VAULT_TOKEN_FILE or VAULT_TOKEN",
    );
  }
  return { kind: "token", token: token ?? "" };
}
