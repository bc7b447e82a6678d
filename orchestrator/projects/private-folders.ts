/**
 * Closes the data folder to everyone but its owner, as far as the agents' users need not pass.
 *
 * Invariant: hidden tests, other trials' artefacts, the log and the command line's token lie below
 * a folder of mode 0700. That holds off other users; an agent that runs as our own user it cannot.
 */
import { chmod, mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Layout } from "./layout.ts";

/** Idempotent; also closes what an earlier version left open. */
export async function closeFolders(layout: Layout): Promise<void> {
  const modes: [folder: string, mode: number][] = [
    [join(layout.home, "projects"), 0o700],
    [layout.configs, 0o700],
    [layout.logs, 0o700],
    // Agents pass through to their own allocation, and need not learn the others' names.
    [layout.allocations, 0o711],
  ];
  for (const [folder, mode] of modes) {
    await mkdir(folder, { recursive: true, mode });
    await chmod(folder, mode);
  }
}
