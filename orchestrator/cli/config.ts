/** What the command line is told by its surroundings: the only reader of the environment here. */
import { existsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";

export interface CliConfig {
  /** The server and the token that were named, before any file is looked at. */
  url: string | undefined;
  token: string | undefined;
  /** The file that the orchestrator writes for us; it may not exist. */
  endpointFile: string;
  /** The checkout that this program is part of. */
  rootDir: string;
  cwd: string;
  wantsColour: boolean;
  /** The installation's variables of VM templates; it may not exist. */
  vmFile: string;
  /** The variables that set one of a VM template. */
  vmEnv: Readonly<Record<string, string | undefined>>;
  /** The Vault that `vault init` makes ready, and an operator's token for it. */
  vault: {
    address: string | undefined;
    token: string | undefined;
    namespace: string | undefined;
    caFile: string | undefined;
    places: { kvMount: string; prefix: string; transitMount: string; transitKey: string };
  };
}

const SYSTEM_HOME = "/var/lib/autocode";
const ENDPOINT = join("shared", "configs", "endpoint.json");
const VM_FILE = join("shared", "configs", "vm.yaml");

export function readCliConfig(
  env: Record<string, string | undefined> = process.env,
  cwd: string = process.cwd(),
): CliConfig {
  const rootDir = resolve(import.meta.dirname, "../..");
  const { AUTOCODE_HOME: home, AUTOCODE_URL: url, AUTOCODE_TOKEN: token } = env;
  const homeDir = home === undefined || home === "" ? findHome(cwd, rootDir) : resolve(cwd, home);
  return {
    url: url === "" ? undefined : url,
    token: token === "" ? undefined : token,
    endpointFile: join(homeDir, ENDPOINT),
    rootDir,
    cwd,
    wantsColour: env["NO_COLOR"] === undefined || env["NO_COLOR"] === "",
    vmFile: join(homeDir, VM_FILE),
    vmEnv: Object.fromEntries(
      Object.entries(env).filter(([name]) => name.startsWith("AUTOCODE_VM_")),
    ),
    vault: {
      address: given("VAULT_ADDR"),
      token: given("VAULT_TOKEN"),
      namespace: given("VAULT_NAMESPACE"),
      caFile: given("VAULT_CACERT"),
      places: {
        kvMount: given("AUTOCODE_VAULT_KV") ?? "secret",
        prefix: given("AUTOCODE_VAULT_PREFIX") ?? "autocode",
        transitMount: given("AUTOCODE_VAULT_TRANSIT") ?? "transit",
        transitKey: given("AUTOCODE_VAULT_KEY") ?? "autocode",
      },
    },
  };

  function given(name: string): string | undefined {
    return env[name] === "" ? undefined : env[name];
  }
}

/**
 * The nearest `.autocode` from here upwards that a server wrote to, else the system's place, which
 * root's server takes in a closed folder, else the checkout's own.
 */
function findHome(cwd: string, rootDir: string): string {
  for (let folder = cwd; ; folder = dirname(folder)) {
    const home = join(folder, ".autocode");
    if (existsSync(join(home, ENDPOINT))) return home;
    if (dirname(folder) !== folder) continue;
    return existsSync(join(SYSTEM_HOME, ENDPOINT)) ? SYSTEM_HOME : join(rootDir, ".autocode");
  }
}
