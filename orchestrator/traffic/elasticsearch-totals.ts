/** Totals of flows: what Elasticsearch is asked for them, and the same of flows at hand. Pure. */
import type { estypes } from "@elastic/elasticsearch";
import type { FlowGroup } from "../contract/flow-choices.ts";
import type { FlowRecord, FlowTotals } from "../contract/flows.ts";
import { summaryOf } from "./filter.ts";

type Total = FlowTotals["groups"][number];

const GROUPS_MAX = 10_000;

const FIELDS: Readonly<Record<Exclude<FlowGroup, "hour">, string>> = {
  host: "destination.domain",
  trial: "autocode.trial_id",
  agent: "autocode.agent",
  action: "autocode.action",
  status: "http.response.status_code",
};

const SUMS: Record<string, estypes.AggregationsAggregationContainer> = {
  refused: { filter: { term: { "autocode.action": "deny" } } },
  errors: { filter: { term: { "autocode.is_error": true } } },
  sent: { sum: { field: "autocode.sent_bytes" } },
  received: { sum: { field: "autocode.received_bytes" } },
};

interface Bucket {
  key?: string | number;
  key_as_string?: string;
  doc_count: number;
  refused: { doc_count: number };
  errors: { doc_count: number };
  sent: { value: number };
  received: { value: number };
}

/** The aggregations of a group: `keyed`, and `others` for flows that have no key. */
export function totalsOf(by: FlowGroup): Record<string, estypes.AggregationsAggregationContainer> {
  if (by === "hour") {
    const hours = { field: "@timestamp", calendar_interval: "hour", min_doc_count: 1 } as const;
    return { keyed: { date_histogram: hours, aggregations: SUMS } };
  }
  const field = FIELDS[by];
  return {
    keyed: { terms: { field, size: GROUPS_MAX }, aggregations: SUMS },
    others: { missing: { field }, aggregations: SUMS },
  };
}

export function readTotals(answer: unknown, by: FlowGroup): FlowTotals {
  // No index yet: no aggregation.
  const { keyed, others } = (answer ?? {}) as { keyed?: { buckets: Bucket[] }; others?: Bucket };
  const groups = (keyed?.buckets ?? []).map((bucket) => {
    const { key, key_as_string: text } = bucket;
    return toTotal(
      by === "hour" ? new Date(Number(key)).toISOString() : (text ?? String(key)),
      bucket,
    );
  });
  if (others !== undefined && others.doc_count > 0) groups.push(toTotal(null, others));
  return { groups: inOrder(groups, by) };
}

export function countTotals(flows: readonly FlowRecord[], by: FlowGroup): FlowTotals {
  const groups = new Map<string | null, Total>();
  for (const flow of flows) {
    const key = keyOf(flow, by);
    const none = {
      flow_count: 0,
      refused_count: 0,
      error_count: 0,
      sent_bytes: 0,
      received_bytes: 0,
    };
    const total = groups.get(key) ?? { key, ...none };
    const { sent_bytes, received_bytes } = summaryOf(flow);
    groups.set(key, {
      key,
      flow_count: total.flow_count + 1,
      refused_count: total.refused_count + (flow.decision.action === "deny" ? 1 : 0),
      error_count: total.error_count + (flow.error === null ? 0 : 1),
      sent_bytes: total.sent_bytes + sent_bytes,
      received_bytes: total.received_bytes + received_bytes,
    });
  }
  return { groups: inOrder([...groups.values()], by) };
}

function keyOf(flow: FlowRecord, by: FlowGroup): string | null {
  switch (by) {
    case "host":
      return flow.server.host.toLowerCase();
    case "trial":
      return flow.trial_id;
    case "agent":
      return flow.agent;
    case "hour":
      return `${new Date(flow.started_at).toISOString().slice(0, 13)}:00:00.000Z`;
    case "action":
      return flow.decision.action;
    case "status":
      return flow.response === null ? null : String(flow.response.status);
  }
}

function toTotal(key: string | null, bucket: Bucket): Total {
  return {
    key,
    flow_count: bucket.doc_count,
    refused_count: bucket.refused.doc_count,
    error_count: bucket.errors.doc_count,
    sent_bytes: bucket.sent.value,
    received_bytes: bucket.received.value,
  };
}

function inOrder(groups: Total[], by: FlowGroup): Total[] {
  const byKey = (a: Total, b: Total) => (String(a.key) < String(b.key) ? -1 : 1);
  if (by === "hour") return groups.sort(byKey);
  return groups.sort((a, b) => b.flow_count - a.flow_count || byKey(a, b));
}
