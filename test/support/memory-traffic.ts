/** The traffic port in memory, for tests of what reads it; held to the port's conformance suite. */
import type { FlowGroup } from "../../orchestrator/contract/flow-choices.ts";
import type { FlowRecord, FlowTotals } from "../../orchestrator/contract/flows.ts";
import { Problem } from "../../orchestrator/problem.ts";
import type { FlowId } from "../../orchestrator/runtime/ids.ts";
import { matchesQuery, summaryOf, withoutContents } from "../../orchestrator/traffic/filter.ts";
import type { FlowQuery, Traffic } from "../../orchestrator/traffic/traffic.ts";

type Total = FlowTotals["groups"][number];

/** `fault`: set it, and the store is away. */
export function createMemoryTraffic(): Traffic & { fault: string | null } {
  const flows = new Map<string, FlowRecord>();
  const traffic: Traffic & { fault: string | null } = {
    name: "postgres",
    fault: null,
    append,
    search,
    find: async (id) => known().get(id) ?? null,
    scan,
    totals,
    countBySource,
    expire,
    boundary,
    describe: async () => `${known().size} flows in memory`,
    [Symbol.asyncDispose]: async () => flows.clear(),
  };
  return traffic;

  function known(): Map<string, FlowRecord> {
    if (traffic.fault !== null) throw new Problem("unavailable", traffic.fault);
    return flows;
  }

  async function append(records: readonly FlowRecord[]) {
    for (const flow of records) if (!known().has(flow.id)) flows.set(flow.id, flow);
    return new Map<FlowId, string>();
  }

  /** The newest first. */
  function fitting(query: FlowQuery): FlowRecord[] {
    return [...known().values()]
      .filter((flow) => matchesQuery(query, flow))
      .toSorted((a, b) => (placeOf(a) < placeOf(b) ? 1 : -1));
  }

  async function search(query: FlowQuery, { limit, cursor }: { limit: number; cursor?: string }) {
    const after = cursor === undefined ? null : readCursor(cursor);
    const rest = fitting(query).filter((flow) => after === null || placeOf(flow) < after);
    const page = rest.slice(0, limit);
    const last = page.at(-1);
    const isMore = rest.length > limit && last !== undefined;
    return {
      flows: page.map(summaryOf),
      next_cursor: isMore ? Buffer.from(placeOf(last)).toString("base64url") : null,
    };
  }

  async function* scan(query: FlowQuery): AsyncGenerator<FlowRecord> {
    yield* fitting(query).reverse();
  }

  async function totals(query: FlowQuery, by: FlowGroup): Promise<FlowTotals> {
    const groups = new Map<string | null, Total>();
    for (const flow of fitting(query)) {
      const key = keyOf(flow, by);
      const total = groups.get(key) ?? {
        ...{ key, flow_count: 0, refused_count: 0, error_count: 0 },
        ...{ sent_bytes: 0, received_bytes: 0 },
      };
      const { sent_bytes: sent, received_bytes: received } = summaryOf(flow);
      groups.set(key, {
        key,
        flow_count: total.flow_count + 1,
        refused_count: total.refused_count + (flow.decision.action === "deny" ? 1 : 0),
        error_count: total.error_count + (flow.error === null ? 0 : 1),
        sent_bytes: total.sent_bytes + sent,
        received_bytes: total.received_bytes + received,
      });
    }
    const sorted = [...groups.values()].toSorted((a, b) =>
      by === "hour" ? compare(a, b) : b.flow_count - a.flow_count || compare(a, b),
    );
    return { groups: sorted };
  }

  async function countBySource(sourceIds: readonly string[]) {
    const counts = new Map<string, number>();
    for (const { source_id: id } of known().values()) {
      if (sourceIds.includes(id)) counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    return counts;
  }

  async function expire(
    projectId: string | null,
    what: "meta" | "headers" | "body",
    before: number,
  ): Promise<number> {
    let count = 0;
    for (const flow of [...known().values()]) {
      const isTheirs = projectId === "everyone" || flow.project_id === projectId;
      if (!isTheirs || Date.parse(flow.started_at) >= before) continue;
      const left = what === "meta" ? null : without(flow, what);
      if (left === null) flows.delete(flow.id);
      else if (JSON.stringify(left) === JSON.stringify(flow)) continue;
      else flows.set(flow.id, left);
      count += 1;
    }
    return count;
  }

  async function boundary(projectId: string, bytesMax: number): Promise<number | null> {
    let left = bytesMax;
    for (const flow of fitting({ projectId: projectId as `project_${string}` })) {
      left -= JSON.stringify(flow).length - JSON.stringify(withoutContents(flow)).length;
      if (left < 0) return Date.parse(flow.started_at) + 1;
    }
    return null;
  }
}

function without(flow: FlowRecord, what: "headers" | "body"): FlowRecord {
  const { request, response } = flow;
  const gone = what === "headers" ? { headers: null } : { body: null };
  return {
    ...flow,
    request: request === null ? null : { ...request, ...gone },
    response: response === null ? null : { ...response, ...gone },
    ...(what === "body" ? { messages: null } : {}),
  };
}

function keyOf(flow: FlowRecord, by: FlowGroup): string | null {
  switch (by) {
    case "host":
      return flow.server.host;
    case "trial":
      return flow.trial_id;
    case "agent":
      return flow.agent;
    case "hour":
      return `${flow.started_at.slice(0, 13)}:00:00.000Z`;
    case "action":
      return flow.decision.action;
    case "status":
      return flow.response === null ? null : String(flow.response.status);
  }
}

function placeOf({ started_at: at, id }: FlowRecord): string {
  return `${new Date(at).toISOString()} ${id}`;
}

function readCursor(cursor: string): string {
  const text = Buffer.from(cursor, "base64url").toString();
  if (/^\S+Z flow_\w{26}$/.test(text)) return text;
  throw new Problem("invalid_request", "querystring.cursor: it is none of ours; leave it out");
}

function compare(a: Total, b: Total): number {
  return String(a.key) < String(b.key) ? -1 : 1;
}
