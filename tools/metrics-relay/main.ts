/**
 * Serves other programs' metrics, and nothing else of them, to a Prometheus that must not reach
 * them: `node tools/metrics-relay/main.ts HOST:PORT NAME=URL…` answers `GET /NAME` there with what
 * URL says. It listens on that address alone: whoever is near on another gets nothing by its token.
 * `AUTOCODE_ENDPOINT_FILE` has the token for the one called `orchestrator`; it is read each time,
 * since each start of the orchestrator makes another.
 */
import { openRelay } from "./relay.ts";

const [where = "", ...named] = process.argv.slice(2);
const sources = new Map(
  named.map((each) => {
    const at = each.indexOf("=");
    return [each.slice(0, at), each.slice(at + 1)];
  }),
);
const [, host, port] = /^([\w.-]+):(\d+)$/.exec(where) ?? [];
if (host === undefined || sources.size === 0 || sources.has("")) {
  console.error("usage: node tools/metrics-relay/main.ts HOST:PORT NAME=URL…");
  process.exit(2);
}
const endpointFile = process.env["AUTOCODE_ENDPOINT_FILE"] ?? null;
const relay = await openRelay({ host, port: Number(port), sources, endpointFile });
console.log(`metrics relay on ${host}:${relay.port}: ${[...sources.keys()].join(", ")}`);
process.once("SIGTERM", () => void relay[Symbol.asyncDispose]());
