/**
 * A spool whose folder may not be writable yet: a door whose disk is dead or full at the start is
 * open all the same and says so, as one whose disk dies later does, and records from when it heals.
 */
import { Problem } from "../problem.ts";
import { openSpool, type Spool, type SpoolOptions } from "./spool.ts";

const RETRY_MS = 1_000;

/**
 * Opens a spool now, or as soon as that is possible: until then its `fault` says why not, and it
 * takes nothing.
 *
 * @throws Problem `conflict` when another process writes to it.
 */
export async function openLateSpool(options: SpoolOptions): Promise<Spool> {
  try {
    return await openSpool(options);
  } catch (error) {
    if (!(error instanceof Problem && error.code === "unavailable")) throw error;
    options.log.error({ err: error }, "traffic cannot be recorded yet");
    return createLateSpool(options, error);
  }
}

function createLateSpool(options: SpoolOptions, first: Problem): Spool {
  const { source, log, healEveryMs = RETRY_MS } = options;
  let spool: Spool | null = null;
  let trouble = first.message;
  let isClosing = false;
  let timer: NodeJS.Timeout | undefined;
  let trying: Promise<void> = Promise.resolve();
  arm();
  return {
    source,
    append: (record) => {
      return spool?.append(record) ?? Promise.reject(new Problem("unavailable", trouble));
    },
    lastSequence: () => spool?.lastSequence() ?? 0,
    spooledBytes: async () => spool?.spooledBytes() ?? 0,
    fault: () => (spool === null ? trouble : spool.fault()),
    [Symbol.asyncDispose]: dispose,
  };

  function arm(): void {
    timer = setTimeout(() => {
      trying = tryOnce();
    }, healEveryMs);
  }

  async function tryOnce(): Promise<void> {
    try {
      spool = await openSpool(options);
      log.info({ source_id: source.id }, "traffic is recorded from here on");
    } catch (error) {
      trouble = (error as Error).message;
      if (!isClosing) arm();
    }
  }

  async function dispose(): Promise<void> {
    isClosing = true;
    clearTimeout(timer);
    await trying;
    await spool?.[Symbol.asyncDispose]();
  }
}
