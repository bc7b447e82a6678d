/** Which GPUs this machine has: what its configuration says, else what its driver does. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";

export interface OwnGpus {
  gpu: string;
  gpu_count: number;
}

const ASK_MS = 5_000;

/** Null: none, or none that `known` (names of the hardware table) has. */
export async function findOwnGpus(
  configured: { name: string; count: number } | null,
  known: Iterable<string>,
): Promise<OwnGpus | null> {
  if (configured !== null) return { gpu: configured.name, gpu_count: configured.count };
  const args = ["--query-gpu=name", "--format=csv,noheader"];
  try {
    const { stdout } = await promisify(execFile)("nvidia-smi", args, { timeout: ASK_MS });
    return matchGpus(stdout, known);
  } catch {
    // No driver, or one that does not answer: no GPU that could be used.
    return null;
  }
}

/**
 * The driver's names, one a line, as one of ours: "NVIDIA A100-SXM4-80GB" is `a100-80`. Of several
 * kinds in one machine the most numerous. Pure.
 */
export function matchGpus(names: string, known: Iterable<string>): OwnGpus | null {
  const ours = [...known].toSorted((one, other) => other.length - one.length);
  const counts = new Map<string, number>();
  for (const line of names.split("\n")) {
    const words = line.toLowerCase().split(/[^a-z0-9]+/);
    const gpu = ours.find((name) =>
      name.split("-").every((part) => words.some((word) => word === part || word === `${part}gb`)),
    );
    if (gpu !== undefined) counts.set(gpu, (counts.get(gpu) ?? 0) + 1);
  }
  const [most] = [...counts].toSorted(([, one], [, other]) => other - one);
  return most === undefined ? null : { gpu: most[0], gpu_count: most[1] };
}
