/**
 * What a Vault must have for us, made where it is missing: mounts, the signing key, policies from
 * the files in `nomad-jobs/policies/vault`, roles to log in with. Needs an operator's token.
 *
 * Invariant: nothing that is there is taken away, no key is replaced, and doing it twice does
 * nothing more; a mount of another kind is refused, never changed.
 */
import { type VaultAnswer, type VaultClient, VaultFault } from "./vault-client.ts";

export interface VaultPlaces {
  kvMount: string;
  prefix: string;
  transitMount: string;
  transitKey: string;
}

export interface VaultSetupFiles {
  /** By name: the text of a policy that is written for the usual places. */
  policies: ReadonlyMap<string, string>;
  /** Of the login by workload identity; null where there is none to be. */
  jwt: { config: object; roles: ReadonlyMap<string, object> } | null;
}

export interface SetupStep {
  what: string;
  /** `there`: as it is to be. */
  state: "missing" | "differs" | "there";
}

export const APPROLES = ["autocode-orchestrator", "autocode-proxy"] as const;
export const JWT_MOUNT = "jwt-nomad";
const APPROLE_MOUNT = "approle";
const SCOPED = "autocode-scoped";
const DAY_S = 86_400;
/** Renewed for as long as it is used; a secret id is good for a quarter of a year. */
const APPROLE = { token_period: 1_800, secret_id_ttl: 90 * DAY_S, secret_id_num_uses: 0 };
const SCOPED_ROLE = {
  allowed_policies: [SCOPED],
  orphan: true,
  renewable: false,
  token_no_default_policy: true,
  token_explicit_max_ttl: DAY_S,
};

interface Setup {
  client: VaultClient;
  token: string;
  places: VaultPlaces;
  files: VaultSetupFiles;
  isDryRun: boolean;
  /** Told of each step, once it is done or, in a dry run, would be. */
  onStep: (step: SetupStep) => void;
}

/** @throws VaultFault in the server's words; TypeError, for people, for a mount that is taken. */
export async function setUpVault(setup: Setup): Promise<void> {
  const { client, token, places, files } = setup;
  const { kvMount, transitMount, transitKey } = places;
  await mount(setup, "sys/mounts", kvMount, { type: "kv", options: { version: "2" } });
  await mount(setup, "sys/mounts", transitMount, { type: "transit" });
  const key = `${transitMount}/keys/${transitKey}`;
  await ensure(setup, `key ${key}`, key, async (found) => {
    if (found === null) await client.write(key, { type: "ed25519" }, { token });
    else if (found.data?.["type"] !== "ed25519") {
      throw new TypeError(`${key} is of type ${found.data?.["type"]}, not ed25519: name another`);
    }
  });
  for (const [name, text] of files.policies) await policy(setup, name, placed(text, places));
  await write(setup, `auth/token/roles/${SCOPED}`, SCOPED_ROLE);
  await mount(setup, "sys/auth", APPROLE_MOUNT, { type: "approle" });
  for (const name of APPROLES) {
    await write(setup, `auth/${APPROLE_MOUNT}/role/${name}`, { ...APPROLE, token_policies: name });
  }
  if (files.jwt === null) return;
  await mount(setup, "sys/auth", JWT_MOUNT, { type: "jwt" });
  await write(setup, `auth/${JWT_MOUNT}/config`, files.jwt.config);
  for (const [name, role] of files.jwt.roles) {
    await write(setup, `auth/${JWT_MOUNT}/role/${name}`, role);
  }
}

/** What a process sets VAULT_ROLE_ID to: it is no secret. */
export async function readRoleId(
  client: VaultClient,
  token: string,
  role: (typeof APPROLES)[number],
): Promise<string> {
  const path = `auth/${APPROLE_MOUNT}/role/${role}/role-id`;
  return String((await client.read(path, { token })).data?.["role_id"]);
}

/** A new secret id: whoever has it and the role's id is the role. */
export async function makeSecretId(
  client: VaultClient,
  token: string,
  role: (typeof APPROLES)[number],
): Promise<string> {
  const path = `auth/${APPROLE_MOUNT}/role/${role}/secret-id`;
  return String((await client.write(path, {}, { token })).data?.["secret_id"]);
}

async function mount(
  { client, token, isDryRun, onStep }: Setup,
  table: "sys/mounts" | "sys/auth",
  name: string,
  wanted: { type: string; options?: { version: string } },
): Promise<void> {
  const mounted = (await client.read(table, { token })).data?.[`${name}/`] as
    | { type: string; options?: { version?: string } | null }
    | undefined;
  const what = `${table === "sys/auth" ? "login" : "mount"} ${name}/ (${wanted.type})`;
  if (mounted !== undefined) {
    const version = mounted.options?.version;
    if (mounted.type !== wanted.type || version !== wanted.options?.version) {
      const is = version == null ? mounted.type : `${mounted.type} of version ${version}`;
      throw new TypeError(`${name}/ is ${is} already: name another place, or move it`);
    }
    onStep({ what, state: "there" });
    return;
  }
  if (!isDryRun) await client.write(`${table}/${name}`, wanted, { token });
  onStep({ what, state: "missing" });
}

async function policy(setup: Setup, name: string, text: string): Promise<void> {
  const { client, token, isDryRun, onStep } = setup;
  const path = `sys/policies/acl/${name}`;
  const found = await look(setup, path);
  const state = found === null ? "missing" : found.data?.["policy"] === text ? "there" : "differs";
  if (state !== "there" && !isDryRun) await client.write(path, { policy: text }, { token });
  onStep({ what: `policy ${name}`, state });
}

/** A role or a config: written whole, since Vault answers it in other words than it was given. */
async function write(setup: Setup, path: string, body: object): Promise<void> {
  const { client, token } = setup;
  await ensure(setup, path, path, async () => {
    await client.write(path, body, { token });
  });
}

async function ensure(
  setup: Setup,
  what: string,
  path: string,
  make: (found: VaultAnswer | null) => Promise<void>,
): Promise<void> {
  const found = await look(setup, path);
  if (!setup.isDryRun) await make(found);
  setup.onStep({ what, state: found === null ? "missing" : "there" });
}

/** Null for what is not there, in a mount that may not be there either. */
async function look({ client, token }: Setup, path: string): Promise<VaultAnswer | null> {
  try {
    return await client.read(path, { token });
  } catch (error) {
    if (error instanceof VaultFault && ["missing", "unprepared", "refused"].includes(error.kind)) {
      return null;
    }
    throw error;
  }
}

/** A policy's paths, at our places instead of the usual ones. */
function placed(text: string, { kvMount, prefix, transitMount, transitKey }: VaultPlaces): string {
  return text
    .replaceAll(/"secret\/(data|metadata)\/autocode\//g, `"${kvMount}/$1/${prefix}/`)
    .replaceAll(/"transit\/(sign|keys)\/autocode(?=[/"])/g, `"${transitMount}/$1/${transitKey}`);
}
