/** What a query asks of documents, in Elasticsearch's query language. Pure: values are JSON. */
import type { estypes } from "@elastic/elasticsearch";
import { Problem } from "../problem.ts";
import { hostPattern, statusRange } from "./parts.ts";
import type { FlowQuery } from "./traffic.ts";

export type Clause = estypes.QueryDslQueryContainer;

/**
 * All of the query but its text; as documents have it, without halves of surrogate pairs.
 * @throws Problem `invalid_request`.
 */
export function filtersOf(query: FlowQuery): Clause[] {
  const { projectId, trial_id, path, method, status, action, reason, door } = query;
  const host = query.host?.toWellFormed();
  const all: Clause[] = [];
  if (projectId !== undefined) all.push(term("autocode.project_id", projectId));
  if (trial_id !== undefined) all.push(term("autocode.trial_id", trial_id));
  if (host !== undefined) all.push(hostClause(host));
  if (path !== undefined) all.push({ prefix: { "url.path": path.toWellFormed() } });
  if (method !== undefined) {
    const value = method.toWellFormed();
    all.push({ term: { "http.request.method": { value, case_insensitive: true } } });
  }
  if (status !== undefined) {
    const { from, to } = statusRange(status);
    all.push({ range: { "http.response.status_code": { gte: from, lte: to } } });
  }
  if (action !== undefined) all.push(term("autocode.action", action));
  if (reason !== undefined) all.push(term("autocode.reason", reason));
  if (door !== undefined) all.push(term("autocode.door", door));
  const { since, until } = query;
  if (since !== undefined) all.push(range({ gte: timeOf("since", since) }));
  if (until !== undefined) all.push(range({ lt: timeOf("until", until) }));
  return all;
}

/** Any piece of the URL; in headers and bodies whole words, the last one's beginning. */
export function textClause(text: string): Clause {
  const fields = [
    "autocode.headers",
    "http.request.body.content",
    "http.response.body.content",
    "autocode.messages",
  ];
  return {
    bool: {
      should: [
        { wildcard: { "url.full": { value: `*${literal(text)}*`, case_insensitive: true } } },
        { multi_match: { query: text, type: "phrase", fields } },
        { multi_match: { query: text, type: "phrase_prefix", fields } },
      ],
      minimum_should_match: 1,
    },
  };
}

/** Flows of a project, or of nobody. */
export function ownerClause(projectId: string | null): Clause {
  if (projectId !== null) return term("autocode.project_id", projectId);
  return { bool: { must_not: [{ exists: { field: "autocode.project_id" } }] } };
}

export function term(field: string, value: string): Clause {
  return { term: { [field]: { value: value.toWellFormed() } } };
}

export function range(bounds: { gte?: number; lt?: number }): Clause {
  return { range: { "@timestamp": { ...bounds, format: "epoch_millis" } } };
}

function hostClause(host: string): Clause {
  const pattern = hostPattern(host);
  if ("host" in pattern) return term("destination.domain", pattern.host);
  return { wildcard: { "destination.domain": { value: `*${literal(pattern.suffix)}` } } };
}

/** For a wildcard query: what stands for itself. */
function literal(text: string): string {
  return text.replaceAll(/[\\*?]/g, "\\$&");
}

function timeOf(field: string, text: string): number {
  const time = new Date(text);
  const isTime = !Number.isNaN(time.getTime()) && /^\d{4}-/.test(time.toISOString());
  if (isTime) return time.getTime();
  throw new Problem("invalid_request", `${field}: no time; write it as 2026-11-21T20:00:00Z`);
}
