/** What this machine has, measured: what its orchestrator places by. */
import { execFile } from "node:child_process";
import { readFile, statfs } from "node:fs/promises";
import { availableParallelism, totalmem } from "node:os";
import { promisify } from "node:util";
import type { Capabilities } from "../../orchestrator/contract/workers.ts";
import { AGENTS } from "../agents/registry.ts";
import { installedVersion } from "../install.ts";

/** A VM's template writes its name there when the VM is made. */
const TEMPLATE_FILE = "/etc/autocode/template";
const ASK_MS = 10_000;
const GIB = 2 ** 30;

/**
 * @param dir where allocations work: its disk counts.
 * @param templateFile the name of the VM's template, where there is one.
 */
export async function measureCapabilities(
  { dir, agentsDir }: { dir: string; agentsDir: string },
  templateFile: string = TEMPLATE_FILE,
): Promise<Capabilities> {
  const { bavail, bsize } = await statfs(dir);
  // A container's limit, where there is one; without it this is more than there is.
  const limit = process.constrainedMemory();
  const versions = await Promise.all(
    AGENTS.map(async (agent) => {
      const version = await installedVersion(agent, agentsDir);
      return version === null ? [] : [`${agent.facts.name} ${version}`];
    }),
  );
  return {
    cpus: availableParallelism(),
    memory_bytes: limit > 0 && limit < totalmem() ? limit : totalmem(),
    // Whole GiB: it changes with every file.
    disk_bytes: Math.floor((bavail * bsize) / GIB) * GIB,
    gpus: await readGpus(),
    arch: process.arch,
    vm_template: await readTemplate(templateFile),
    agents: versions.flat(),
  };
}

async function readGpus(): Promise<Capabilities["gpus"]> {
  const args = ["--query-gpu=name,memory.total", "--format=csv,noheader,nounits"];
  try {
    const { stdout } = await promisify(execFile)("nvidia-smi", args, { timeout: ASK_MS });
    return parseGpus(stdout);
  } catch {
    // No driver, or one that does not answer: no GPU that could be used.
    return [];
  }
}

/** nvidia-smi's CSV, a GPU a line: name, MiB of memory. */
export function parseGpus(csv: string): Capabilities["gpus"] {
  return csv.split("\n").flatMap((line) => {
    const [, name, mib] = /^\s*(.+?)\s*,\s*(\d+)\s*$/.exec(line) ?? [];
    if (name === undefined) return [];
    return [{ name: name.slice(0, 100), memory_bytes: Number(mib) * 2 ** 20 }];
  });
}

async function readTemplate(path: string): Promise<string | null> {
  const name = (await readFile(path, "utf8").catch(() => "")).trim();
  return name === "" ? null : name.slice(0, 64);
}
