/** What passed: flows looked for, as they come, and in totals. */
import { FLOW_GROUPS, FLOW_PAGE_MAX } from "../../contract/flow-choices.ts";
import type { FlowPage, FlowSummary, FlowTotals } from "../../contract/flows.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import { EXIT, usage } from "../failure.ts";
import { byteText, FLOW_COLUMNS, FLOW_OPTIONS, flowLine, flowQuery } from "../flow-rows.ts";
import type { Column } from "../print.ts";

const LIMIT = 50;
const LIMIT_MAX = 10_000;
/** A stream that comes back tells some flows again. */
const REMEMBERED = 10_000;

export const trafficSearch: Command = {
  name: "traffic search",
  summary: "Look for what trials sent and got, the newest first",
  options: {
    ...FLOW_OPTIONS,
    limit: { type: "string", short: "n", value: "<count>", help: `At most so many (${LIMIT})` },
    json: JSON_OPTION,
  },
  notes: ["Times are UTC. `autocode traffic show <flow>` shows one whole, with its rule."],
  async run({ options, print, connect }) {
    const limit = options.integer("limit", { min: 1, max: LIMIT_MAX }) ?? LIMIT;
    const query = flowQuery(options);
    const client = await connect();
    const flows: FlowSummary[] = [];
    let cursor: string | null = null;
    do {
      query.set("limit", String(Math.min(limit - flows.length, FLOW_PAGE_MAX)));
      if (cursor !== null) query.set("cursor", cursor);
      const page: FlowPage = await client.get<FlowPage>(`flows?${query}`);
      flows.push(...page.flows);
      cursor = page.next_cursor;
      if (cursor !== null && flows.length < limit)
        print.progress(`${flows.length} flows`, "reading");
    } while (cursor !== null && flows.length < limit);
    print.clearProgress();
    if (options.flag("json")) print.json(flows);
    else print.table(FLOW_COLUMNS, flows);
    if (flows.length === 0) print.note("Nothing that was recorded fits");
    if (cursor !== null) print.note(`There are more: --limit ${limit * 2} shows them`);
    return EXIT.done;
  },
};

export const trafficTail: Command = {
  name: "traffic tail",
  summary: "Watch what trials send and get, as it is recorded",
  options: {
    ...FLOW_OPTIONS,
    json: { type: "boolean", help: "Print one JSON a line" },
  },
  notes: ["It goes on until Ctrl-C. A flow is told when it has ended and is stored."],
  async run({ options, print, connect }) {
    const query = flowQuery(options);
    const client = await connect();
    const seen = new Set<string>();
    for await (const { data } of client.events(`flows/live?${query}`)) {
      const flow = JSON.parse(data) as FlowSummary;
      if (seen.has(flow.id)) continue;
      seen.add(flow.id);
      if (seen.size > REMEMBERED) seen.delete(seen.values().next().value ?? "");
      if (options.flag("json")) print.raw(`${JSON.stringify(flow)}\n`);
      else print.parts(flowLine(flow));
    }
    return EXIT.done;
  },
};

export const trafficTotals: Command = {
  name: "traffic totals",
  summary: "Add up flows by host, trial, agent, hour, action or status",
  options: {
    by: { type: "string", value: "<what>", help: `One of ${FLOW_GROUPS.join(", ")} (host)` },
    ...FLOW_OPTIONS,
    json: JSON_OPTION,
  },
  async run({ options, print, connect }) {
    const by = options.text("by") ?? "host";
    if (!FLOW_GROUPS.some((group) => group === by)) {
      throw usage(`--by: "${by}" is none of ${FLOW_GROUPS.join(", ")}`);
    }
    const query = flowQuery(options);
    query.set("by", by);
    const client = await connect();
    const totals = await client.get<FlowTotals>(`flows/totals?${query}`);
    if (options.flag("json")) print.json(totals.groups);
    else print.table(totalColumns(by), totals.groups);
    return EXIT.done;
  },
};

function totalColumns(by: string): Column<FlowTotals["groups"][number]>[] {
  return [
    { title: by, value: ({ key }) => key ?? "(none)", shrinks: true },
    { title: "flows", value: ({ flow_count: count }) => String(count), align: "right" },
    {
      title: "refused",
      value: ({ refused_count: count }) => String(count),
      align: "right",
      tone: ({ refused_count: count }) => (count > 0 ? "bad" : null),
    },
    {
      title: "errors",
      value: ({ error_count: count }) => String(count),
      align: "right",
      tone: ({ error_count: count }) => (count > 0 ? "warn" : null),
    },
    { title: "sent", value: ({ sent_bytes: bytes }) => byteText(bytes), align: "right" },
    { title: "received", value: ({ received_bytes: bytes }) => byteText(bytes), align: "right" },
  ];
}
