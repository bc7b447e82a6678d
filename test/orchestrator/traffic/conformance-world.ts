/** What the conformance suite of traffic asks of: flows in all their kinds, queries, payloads. */
import assert from "node:assert/strict";
import type { FlowRecord } from "../../../orchestrator/contract/flows.ts";
import { type Clock, rfc3339 } from "../../../orchestrator/runtime/clock.ts";
import { createIds, type ProjectId, type TrialId } from "../../../orchestrator/runtime/ids.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import type { FlowQuery } from "../../../orchestrator/traffic/traffic.ts";
import { type FlowChange, flowRecord, refusedFlow, textBody } from "../../support/flow-records.ts";

export const DAY_MS = 86_400_000;
export const NOW_MS = Date.UTC(2026, 10, 21, 12, 34, 56, 789);
export const CLOCK: Clock = { now: () => NOW_MS };

/** Flows of three days, two projects and nobody, in all their kinds; and what is asked of them. */
export function makeWorld(seed: number) {
  const random = seededRandom(seed);
  const ids = createIds(CLOCK, random);
  const projects: ProjectId[] = [ids.next("project"), ids.next("project")];
  const trials: TrialId[] = [ids.next("trial"), ids.next("trial"), ids.next("trial")];
  const hosts = [
    "api.example.org",
    "example.org",
    "cdn.api.example.org",
    "notexample.org",
    "10.0.0.7",
  ];
  const pick = <Of>(from: readonly Of[]): Of => from[random.below(from.length)] as Of;
  const flows = Array.from({ length: 60 }, (_, at) => {
    const host = pick(hosts);
    const atMs = NOW_MS - random.below(3 * DAY_MS);
    const base = flowRecord(ids, atMs);
    const change: FlowChange = {
      project_id: pick([...projects, null]),
      trial_id: pick([...trials, null]),
      agent: pick(["aider", "codex", null]),
      server: { ...base.server, host },
      door: pick(["egress", "gateway"]),
      request: {
        method: pick(["GET", "POST", "get"]),
        path: pick(["/v1/items", "/v1/items/7", "/V1", "/", "/a%20b_c"]),
        query: pick([null, "sort=name", "q=needle"]),
        byte_count: random.below(5_000),
        headers: pick([
          null,
          [
            ["X-Token", "marker one"],
            ["Accept", "*/*"],
          ],
        ]),
        body: pick([null, textBody("a haystack with a needle in it", "text/plain")]),
      },
      response: pick([
        null,
        { status: pick([200, 204, 404, 500, 503]), byte_count: random.below(9_000), body: null },
        { body: textBody('{"answer": "Stra\u00dfe", "number": 42}', "application/json") },
      ]),
      error: pick([null, null, "the connection broke"]),
    };
    switch (at % 6) {
      case 0:
        return refusedFlow(ids, atMs, { ...change, response: { status: 403 } });
      case 1:
        return flowRecord(ids, atMs, {
          ...change,
          kind: "tunnel",
          request: null,
          response: null,
          sent_count: random.below(1_000),
          received_count: random.below(1_000),
          decision: { action: "passthrough" },
        });
      case 3:
        return refusedFlow(ids, atMs, {
          ...{ ...change, kind: "packet", engine: "worker", transport: pick(["tcp", "udp"]) },
          ...{ request: null, response: null, error: null, sent_count: 1 + random.below(1_000) },
          decision: { reason: "dropped", rule: null },
        });
      case 2:
        return flowRecord(ids, atMs, {
          ...change,
          kind: "websocket",
          messages: [{ at_ms: 1, from: "client", body: textBody("a needle said", null) }],
        });
      default:
        return flowRecord(ids, atMs, change);
    }
  });
  return { flows: sorted(flows), projects, queries: queriesOf({ projects, trials, flows }) };
}

function queriesOf({
  projects,
  trials,
  flows,
}: {
  projects: readonly ProjectId[];
  trials: readonly TrialId[];
  flows: readonly FlowRecord[];
}): FlowQuery[] {
  const [projectId] = projects;
  const [trial_id] = trials;
  assert.ok(projectId !== undefined && trial_id !== undefined);
  const middle = flows[30]?.started_at ?? "";
  return [
    {},
    { projectId },
    { trial_id },
    { host: "example.org" },
    { host: "API.Example.org" },
    { host: "*.example.org" },
    { host: "10.0.0.7" },
    { path: "/v1" },
    { path: "/v1/items/" },
    { path: "/a%" },
    { method: "get" },
    { method: "POST" },
    { status: "404" },
    { status: "5xx" },
    { status: "200" },
    { action: "deny" },
    { action: "passthrough" },
    { reason: "no_rule" },
    { reason: "canary" },
    { reason: "dropped" },
    { door: "gateway" },
    { text: "needle" },
    { text: "NEEDLE" },
    { text: "haystack with" },
    { text: "marker one" },
    { text: "x-token: marker" },
    { text: "absent" },
    { text: "42" },
    { since: middle },
    { until: middle },
    { since: rfc3339(NOW_MS - DAY_MS), until: rfc3339(NOW_MS) },
    { projectId, host: "*.example.org", status: "2xx", text: "needle" },
    { trial_id, action: "allow", method: "get", door: "egress" },
  ];
}

const WAYS = ["'", '"', "\\'", "')", "$$;", "%27", "\uff07", "`", "\0", "\ud83d", "*", "?", "{}"];
const SAYS = [
  " or 1=1--",
  " union select meta from flow--",
  "; drop table flow;--",
  " and (select pg_sleep(9)) is null--",
  " OR *:*",
  '"}},{"match_all":{}}]',
  "<script>ctx._source.remove(1)</script>",
  "../_all",
];
/** Texts that would be read as something else, if anything read them. */
export const PAYLOADS = [
  ...WAYS.flatMap((way) => SAYS.map((say) => `zz${way}${say}`)),
  "x".repeat(200),
];

/** The order of all lists. */
export function place({ started_at, id }: FlowRecord): string {
  return `${started_at} ${id}`;
}

export function sorted(flows: readonly FlowRecord[]): FlowRecord[] {
  return flows.toSorted((a, b) => (place(a) < place(b) ? -1 : 1));
}
