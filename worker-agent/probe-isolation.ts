/** Which isolation this host gives a trial: opened once for nobody, and closed again. */
import { chmod, mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RunAs } from "./config.ts";
import type { Isolation } from "./isolate/isolate.ts";
import { openIsolation } from "./open-isolation.ts";
import { makeRooms } from "./rooms.ts";

/** @param runAs the user that a trial would have; null: our own. */
export async function probeIsolation(
  runAs: RunAs | null,
): Promise<Pick<Isolation, "kind" | "detail">> {
  const dir = await realpath(await mkdtemp(join(tmpdir(), "autocode-isolation-")));
  try {
    await chmod(dir, 0o711);
    await using isolation = await openIsolation({
      allocationId: dir,
      rooms: await makeRooms(join(dir, "rooms"), runAs),
      hidden: [dir],
      kept: [],
      runAs,
      // Nobody is asked: that the relay itself is reached says it all.
      proxyUrl: "http://127.0.0.1:9",
      gatewayUrl: null,
      onDropped: () => {},
      onLost: () => {},
    });
    return { kind: isolation.kind, detail: isolation.detail };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
