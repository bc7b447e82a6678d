/**
 * One proxy of the bench, as a process of its own: with the guard's decisions and, for ours, the
 * real sink and spool. Prints its URL, with credentials.
 *
 *     node test/bench/egress/proxy.ts embedded|addon <folder> <port of the upstream> <CA file>
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { argv, stdout } from "node:process";
import { systemClock as clock } from "../../../orchestrator/runtime/clock.ts";
import { systemRandom as random } from "../../../orchestrator/runtime/random.ts";
import { openFileSecrets } from "../../../orchestrator/secrets/file.ts";
import { createFlowSink } from "../../../orchestrator/traffic/flow-sink.ts";
import { NO_SECRETS } from "../../../orchestrator/traffic/secret-forms.ts";
import type { TrafficSources } from "../../../orchestrator/traffic/sources.ts";
import { openSpool } from "../../../orchestrator/traffic/spool.ts";
import { openAuthority } from "../../../proxy/egress/ca.ts";
import { openEmbeddedProxy } from "../../../proxy/egress/embedded.ts";
import { openMitmproxy } from "../../../proxy/egress/mitmproxy.ts";
import { createTestGuard, ids, log } from "../../proxy/egress/world.ts";

/** Nobody asks whether all of a bench's records arrived. */
const SOURCES: TrafficSources = {
  register: async () => undefined,
  heartbeat: async () => undefined,
  close: async () => undefined,
  markStored: async () => undefined,
  markRejected: async () => undefined,
  list: async () => [],
};
const [, , kind = "", folder = "", port = "", caFile = ""] = argv;
const extraCa = await readFile(caFile, "utf8");
const engine = kind === "addon" ? ("mitmproxy" as const) : ("embedded" as const);
const source = { id: ids.next("process"), door: "egress" as const, engine, host: "bench" };
const spool = await openSpool({
  dir: join(folder, "spool"),
  source: { ...source, startedAtMs: clock.now() },
  bytesMax: 2 ** 32,
  log,
});
const sink = createFlowSink({
  ...{ spool, log },
  sources: SOURCES,
  knownSecrets: () => NO_SECRETS,
});
const rules = [
  { action: "allow" as const, hosts: ["localhost"], ports: [Number(port)], is_private: true },
];
const known = createTestGuard({ policy: { rules } });
const session = await known.session("worker", "pass");
if (session === null) throw new Error("the bench's guard knows nobody");
const recording = {
  ...session,
  record: (draft: Parameters<typeof sink.append>[0]) =>
    void sink.append(draft).catch(() => undefined),
};
const guard = { ...known, session: async () => recording };
const secrets = await openFileSecrets({ dir: join(folder, "secrets"), passphrase: null }, random);
const authority = await openAuthority({ secrets, clock, random });
const deps = { guard, sink, authority, ids, clock, log };
const at = { host: "127.0.0.1", port: 0, extraCa };
const proxy =
  kind === "addon"
    ? await openMitmproxy(deps, {
        ...at,
        ...{ mitmdump: null, mode: "regular", dir: join(folder, "mitmproxy") },
      })
    : await openEmbeddedProxy(deps, at);
stdout.write(`${proxy.url.replace("//", "//worker:pass@")}\n`);
process.once("SIGTERM", () => {
  void proxy[Symbol.asyncDispose]().then(() => process.exit(0));
});
