/** How the processes that serve are asked to end. */

const EXIT_FAILED = 1;

/**
 * Aborted by the first SIGINT or SIGTERM. A second one ends the process at once, whatever is open:
 * children end with their process groups' terminal, what is reserved expires, posted in full.
 */
export function stopSignal(): AbortSignal {
  const stopping = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.on(name, () => {
      if (stopping.signal.aborted) process.exit(EXIT_FAILED);
      stopping.abort();
    });
  }
  return stopping.signal;
}

export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) =>
    signal.addEventListener("abort", () => resolve(), { once: true }),
  );
}
