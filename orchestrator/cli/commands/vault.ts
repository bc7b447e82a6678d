/** A Vault made ready by its operator: this talks to Vault, not to a server of ours. */
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { createVaultClient, type VaultClient, VaultFault } from "../../secrets/vault-client.ts";
import {
  APPROLES,
  makeSecretId,
  readRoleId,
  type SetupStep,
  setUpVault,
  type VaultSetupFiles,
} from "../../secrets/vault-setup.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import type { CliConfig } from "../config.ts";
import { EXIT, Failure, usage } from "../failure.ts";

const TIMEOUT_MS = 15_000;
const POLICIES = join("nomad-jobs", "policies", "vault");

export const vaultInit: Command = {
  name: "vault init",
  summary: "Make a Vault ready: mounts, the signing key, policies, roles to log in with",
  options: {
    "dry-run": { type: "boolean", help: "Say what there is and what would be made" },
    role: {
      type: "string",
      value: "<role>",
      help: `Whose secret id: ${APPROLES.join(" or ")} (the first)`,
    },
    "secret-id-file": {
      type: "string",
      value: "<file>",
      help: "Make a new secret id and write it here, for our eyes only",
    },
    "show-secret-id": { type: "boolean", help: "Make a new secret id and print it" },
    "jwks-url": {
      type: "string",
      value: "<url>",
      help: "Where identities' keys are: Nomad's /.well-known/jwks.json",
    },
    json: JSON_OPTION,
  },
  notes: [
    "VAULT_ADDR, VAULT_NAMESPACE and VAULT_CACERT say which Vault; VAULT_TOKEN is an operator's,",
    "for this command alone. What is there stays. Policies: nomad-jobs/policies/vault.",
  ],
  async run({ options, config, print }) {
    const role = APPROLES.find((each) => each === (options.text("role") ?? APPROLES[0]));
    if (role === undefined) throw usage(`--role: it is one of ${APPROLES.join(", ")}`);
    const { client, token } = await openVault(config);
    const isDryRun = options.flag("dry-run");
    const givenFile = options.text("secret-id-file");
    const file = givenFile === undefined ? undefined : resolve(config.cwd, givenFile);
    const steps: SetupStep[] = [];
    try {
      const files = await readFiles(config.rootDir, options.text("jwks-url"));
      const { places } = config.vault;
      const onStep = (step: SetupStep) => {
        steps.push(step);
        if (!options.flag("json")) print.line(stepLine(step, isDryRun));
      };
      // A secret id that cannot be kept is good for 90 days all the same: this fails before it.
      if (file !== undefined && !isDryRun) await makeWritable(file);
      await setUpVault({ client, token, places, files, isDryRun, onStep });
      if (isDryRun) {
        if (options.flag("json")) print.json({ steps });
        return EXIT.done;
      }
      const roleId = await readRoleId(client, token, role);
      const isShown = options.flag("show-secret-id");
      const secretId = file !== undefined || isShown ? await makeSecretId(client, token, role) : "";
      if (file !== undefined) await writePrivate(file, secretId);
      if (options.flag("json")) {
        print.json({ steps, role, role_id: roleId, ...(isShown && { secret_id: secretId }) });
        return EXIT.done;
      }
      print.line(`VAULT_ROLE_ID=${roleId}`);
      if (file !== undefined) print.line(`VAULT_SECRET_ID_FILE=${file}`);
      if (isShown) print.line(`VAULT_SECRET_ID=${secretId}`);
      if (secretId === "") print.note("For a secret id as well: --secret-id-file <file>");
      return EXIT.done;
    } catch (error) {
      throw told(error, client.address);
    } finally {
      await client.close();
    }
  },
};

async function openVault({ vault }: CliConfig): Promise<{ client: VaultClient; token: string }> {
  const { address, token, namespace, caFile } = vault;
  if (address === undefined) throw usage("VAULT_ADDR is not set: it is where the Vault is");
  if (!/^https?:\/\//.test(address) || !URL.canParse(address)) {
    throw usage("VAULT_ADDR: it must be http:// or https:// and an address");
  }
  if (token === undefined)
    throw usage("VAULT_TOKEN is not set: it is an operator's, for this alone");
  const ca = caFile === undefined ? null : await readFile(caFile, "utf8");
  const options = { address: address.replace(/\/+$/, ""), namespace: namespace ?? null, ca };
  return { client: createVaultClient({ ...options, timeoutMs: TIMEOUT_MS }), token };
}

async function readFiles(rootDir: string, jwksUrl: string | undefined): Promise<VaultSetupFiles> {
  const dir = join(rootDir, POLICIES);
  const named = async (folder: string, ending: string) => {
    const files = (await readdir(folder)).filter((name) => name.endsWith(ending)).sort();
    return Promise.all(
      files.map(async (name): Promise<[string, string]> => {
        const text = await readFile(join(folder, name), "utf8");
        return [name.slice(0, -ending.length), text];
      }),
    );
  };
  const policies = new Map(await named(dir, ".hcl"));
  if (jwksUrl === undefined) return { policies, jwt: null };
  if (!URL.canParse(jwksUrl)) throw usage(`--jwks-url: "${jwksUrl}" is no address`);
  const config = JSON.parse(await readFile(join(dir, "jwt-nomad.json"), "utf8")) as object;
  const roles = (await named(join(dir, "roles"), ".json")).map(([name, text]): [string, object] => [
    name,
    JSON.parse(text) as object,
  ]);
  return { policies, jwt: { config: { ...config, jwks_url: jwksUrl }, roles: new Map(roles) } };
}

function stepLine({ what, state }: SetupStep, isDryRun: boolean): string {
  const made = { missing: "made", differs: "changed", there: "is there" };
  const planned = { missing: "would make", differs: "would change", there: "is there" };
  return `${(isDryRun ? planned : made)[state].padEnd(12)}  ${what}`;
}

/** @throws Failure when `file` could not be written and take its name; makes its folder. */
async function makeWritable(file: string): Promise<void> {
  try {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    const isFolder = await readdir(file).then(
      () => true,
      () => false,
    );
    if (isFolder) throw new Error("it is a folder");
    await writeFile(`${file}.new`, "", { mode: 0o600 });
    await rm(`${file}.new`);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Failure(
      EXIT.failed,
      `--secret-id-file: ${file} cannot be written, so that nothing was made: ${why}`,
      error,
    );
  }
}

/** Whole, or not at all: a process reads it at each login. */
async function writePrivate(file: string, text: string): Promise<void> {
  const draft = `${file}.new`;
  await writeFile(draft, `${text}\n`, { mode: 0o600 });
  await rename(draft, file);
}

function told(error: unknown, address: string): unknown {
  if (error instanceof TypeError) return new Failure(EXIT.failed, error.message, error);
  if (!(error instanceof VaultFault)) return error;
  const where = `Vault at ${address}`;
  switch (error.kind) {
    case "unreachable":
      return new Failure(EXIT.unavailable, `${where} cannot be reached: ${error.message}`, error);
    case "sealed":
      return new Failure(EXIT.unavailable, `${where} is sealed: unseal it first`, error);
    case "forbidden":
      return new Failure(
        EXIT.refused,
        `${where} denies this: ${error.message}. VAULT_TOKEN must be an operator's`,
        error,
      );
    default:
      return new Failure(EXIT.failed, `${where} refuses: ${error.message}`, error);
  }
}
