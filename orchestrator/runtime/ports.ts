/**
 * Which port to listen on when any will do: the one of last time, so that workers which outlived
 * a killed orchestrator find it, and its links and bookmarks stay good.
 */
import { createServer } from "node:net";

/** `wanted` when it is one; else the port of `lastUrl`, unless another took it; else 0. */
export async function choosePort(
  wanted: number,
  host: string,
  lastUrl: string | undefined,
): Promise<number> {
  if (wanted !== 0 || lastUrl === undefined || !URL.canParse(lastUrl)) return wanted;
  const port = Number(new URL(lastUrl).port);
  return port > 0 && (await isFree(port, host)) ? port : 0;
}

function isFree(port: number, host: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once("error", () => resolve(false));
    probe.listen(port, host, () => probe.close(() => resolve(true)));
  });
}
