/**
 * `tools/composecheck`, built by the machine's own Go: what `docker compose config` would say of a
 * file. Without Go those tests are skipped, unless every engine is required.
 */
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const SOURCE = join(import.meta.dirname, "../../tools/composecheck");
const OUTPUT_BYTES_MAX = 16 * 1_048_576;

export interface ComposeService {
  readonly image: string;
  readonly command?: readonly string[] | null;
  readonly entrypoint?: readonly string[] | null;
  readonly environment?: Readonly<Record<string, string | null>>;
  readonly networks?: Readonly<Record<string, { aliases?: readonly string[] } | null>>;
  readonly network_mode?: string;
  readonly profiles?: readonly string[];
  readonly ports?: readonly { host_ip?: string; published: string; target: number }[];
  readonly depends_on?: Readonly<Record<string, { condition: string }>>;
  readonly healthcheck?: { test: readonly string[] };
  readonly volumes?: readonly { type: string; source: string; target: string }[];
  readonly secrets?: readonly { source: string; target: string }[];
  readonly deploy?: {
    resources?: {
      reservations?: {
        devices?: readonly { driver: string; device_ids?: string[]; capabilities: string[] }[];
      };
    };
  };
}

export interface ComposeProject {
  readonly services: Readonly<Record<string, ComposeService>>;
  readonly networks: Readonly<Record<string, { internal?: boolean }>>;
  readonly volumes?: Readonly<Record<string, unknown>>;
  readonly secrets: Readonly<Record<string, { file: string }>>;
}

export interface ComposeCheck {
  /** The merged project. @throws Error with what the library says of a file that is not right. */
  read(files: readonly string[], ...args: string[]): Promise<ComposeProject>;
  remove(): Promise<void>;
}

/** Null: there is no Go here, and none is required. @throws Error when it cannot be built. */
export async function buildComposeCheck(): Promise<ComposeCheck | null> {
  const env = { ...process.env, GOTOOLCHAIN: "local", GOFLAGS: "-mod=readonly" };
  try {
    await run("go", ["version"], { env });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    if (process.env["AUTOCODE_REQUIRE_ENGINES"] !== "all") return null;
    throw new Error("Go is required by AUTOCODE_REQUIRE_ENGINES and not on the PATH", {
      cause: error,
    });
  }
  const folder = await mkdtemp(join(tmpdir(), "autocode-composecheck-"));
  const program = join(folder, "composecheck");
  try {
    await run("go", ["build", "-o", program, "."], { cwd: SOURCE, env });
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
  return { read, remove: () => rm(folder, { recursive: true, force: true }) };

  async function read(files: readonly string[], ...args: string[]): Promise<ComposeProject> {
    const { stdout } = await run(program, [...args, ...files], { maxBuffer: OUTPUT_BYTES_MAX });
    return JSON.parse(stdout) as ComposeProject;
  }
}
