/**
 * `tools/nomadcontract`, built by the machine's own Go, for tests that ask HashiCorp's code what
 * it makes of ours. Without Go those tests are skipped, unless every engine is required.
 */
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const SOURCE = join(import.meta.dirname, "../../tools/nomadcontract");
const OUTPUT_BYTES_MAX = 64 * 1_048_576;

export interface NomadContract {
  /** The program's lines; what it said on standard error is in the error's message. */
  check<Line = Record<string, unknown>>(...args: string[]): Promise<Line[]>;
  /** What it says of what it refuses; fails when it refuses nothing. */
  refusal(...args: string[]): Promise<string>;
  remove(): Promise<void>;
}

/** Null: there is no Go here, and none is required. @throws Error when it cannot be built. */
export async function buildNomadContract(): Promise<NomadContract | null> {
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
  const folder = await mkdtemp(join(tmpdir(), "autocode-nomadcontract-"));
  const program = join(folder, "nomadcontract");
  try {
    await run("go", ["build", "-o", program, "."], { cwd: SOURCE, env });
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
  return { check, refusal, remove: () => rm(folder, { recursive: true, force: true }) };

  async function check<Line>(...args: string[]): Promise<Line[]> {
    const { stdout } = await run(program, args, { maxBuffer: OUTPUT_BYTES_MAX });
    return stdout
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as Line);
  }

  async function refusal(...args: string[]): Promise<string> {
    try {
      await run(program, args, { maxBuffer: OUTPUT_BYTES_MAX });
    } catch (error) {
      return String((error as { stderr?: string }).stderr ?? error).trim();
    }
    throw new Error(`was not refused: ${args.join(" ")}`);
  }
}
