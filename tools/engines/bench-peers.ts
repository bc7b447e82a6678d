/**
 * The gateways that the bench compares ours with, into `.engines/bench/`, each from its own
 * registry by its own client, pinned. What cannot be had here is told and left out; the bench then
 * prints it as absent.
 */
import { access, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "./run.ts";

const PORTKEY = "@portkey-ai/gateway@1.15.2";
const LITELLM = "litellm[proxy]==1.106.2";

/** Returns how many could not be installed. Idempotent: what is there is left alone. */
export async function installBenchPeers(
  dir: string,
  tell: (line: string) => void,
): Promise<number> {
  await mkdir(dir, { recursive: true });
  const results = [await install("portkey", portkey), await install("litellm", litellm)];
  const hasNginx = await run("nginx", ["-v"]).then(
    () => true,
    () => false,
  );
  tell(`nginx: ${hasNginx ? "installed" : "missing; install your system's nginx package"}`);
  return [...results, hasNginx].filter((isThere) => !isThere).length;

  async function install(name: string, make: () => Promise<void>): Promise<boolean> {
    try {
      await make();
      tell(`${name}: installed`);
      return true;
    } catch (error) {
      tell(`${name}: not installed: ${error instanceof Error ? error.message : error}`);
      return false;
    }
  }

  async function portkey(): Promise<void> {
    const folder = join(dir, "portkey");
    if (await exists(join(folder, "node_modules/@portkey-ai/gateway/build/start-server.js")))
      return;
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, "package.json"), '{"private":true}\n');
    await run("npm", ["install", "--ignore-scripts", "--no-audit", "--no-fund", PORTKEY], folder);
  }

  async function litellm(): Promise<void> {
    const folder = join(dir, "litellm");
    if (await exists(join(folder, "bin/litellm"))) return;
    await run("python3", ["-m", "venv", folder]);
    await run(join(folder, "bin/pip"), ["install", "--quiet", LITELLM]);
  }
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
