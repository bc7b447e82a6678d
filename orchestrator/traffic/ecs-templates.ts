/**
 * The index templates of the three classes, with core field types alone, so that any Elasticsearch
 * from 8 on takes them. Pure; `test/golden/elasticsearch-templates.json` is what they are.
 */
import { FIELD_CLASSES } from "./ecs.ts";
import type { FieldClass } from "./traffic.ts";

/** Three bytes a character at most, below Lucene's 32,766. */
const KEYWORD = { type: "keyword", ignore_above: 8_191 } as const;
const LONG = { type: "long" } as const;
/** Kept and given back, never looked into. */
const OPAQUE = { type: "object", enabled: false } as const;
/** Of any length; found by its words. */
const TEXT = { type: "text", norms: false } as const;

const object = (properties: object) => ({ properties });

const SHARED = {
  "@timestamp": { type: "date" },
  ecs: object({ version: KEYWORD }),
  event: { id: KEYWORD, kind: KEYWORD, category: KEYWORD, type: KEYWORD, outcome: KEYWORD },
  destination: { domain: KEYWORD },
  url: { path: KEYWORD },
  http: {
    request: object({ method: KEYWORD }),
    response: object({ status_code: { type: "integer" } }),
  },
  autocode: {
    project_id: KEYWORD,
    trial_id: KEYWORD,
    agent: KEYWORD,
    door: KEYWORD,
    action: KEYWORD,
    reason: KEYWORD,
    sent_bytes: LONG,
    received_bytes: LONG,
    is_error: { type: "boolean" },
    content_bytes: LONG,
  },
};

const PROPERTIES: Readonly<Record<FieldClass, object>> = {
  meta: {
    ...SHARED,
    event: object({ ...SHARED.event, duration: LONG }),
    source: object({ ip: { type: "ip", ignore_malformed: true } }),
    destination: object({
      ...SHARED.destination,
      ip: { type: "ip", ignore_malformed: true },
      port: { type: "integer" },
    }),
    network: object({ protocol: KEYWORD, transport: KEYWORD, packets: LONG }),
    tls: object({
      version: KEYWORD,
      client: object({ server_name: KEYWORD }),
      server: object({ hash: object({ sha256: KEYWORD }) }),
    }),
    url: object({ ...SHARED.url, full: KEYWORD, scheme: KEYWORD, query: KEYWORD }),
    http: object({
      version: KEYWORD,
      request: object({ method: KEYWORD, bytes: LONG }),
      response: object({ status_code: { type: "integer" }, bytes: LONG }),
    }),
    rule: object({ name: KEYWORD }),
    error: object({ message: TEXT }),
    message: TEXT,
    autocode: object({
      ...SHARED.autocode,
      source_id: KEYWORD,
      sequence: LONG,
      call_id: KEYWORD,
      transfer_id: KEYWORD,
      record: OPAQUE,
    }),
  },
  headers: {
    ...SHARED,
    event: object(SHARED.event),
    destination: object(SHARED.destination),
    url: object(SHARED.url),
    http: object(SHARED.http),
    autocode: object({ ...SHARED.autocode, headers: TEXT, lists: OPAQUE }),
  },
  body: {
    ...SHARED,
    event: object(SHARED.event),
    destination: object(SHARED.destination),
    url: object(SHARED.url),
    http: object({
      request: object({ method: KEYWORD, body: object({ content: TEXT }) }),
      response: object({ status_code: { type: "integer" }, body: object({ content: TEXT }) }),
    }),
    autocode: object({ ...SHARED.autocode, messages: TEXT, bodies: OPAQUE }),
  },
};

export interface IndexTemplate {
  readonly name: string;
  readonly index_patterns: readonly string[];
  readonly priority: number;
  readonly version: number;
  readonly template: { readonly settings: object; readonly mappings: object; aliases: object };
}

/** The template of each class; `prefix` is ELASTICSEARCH_PREFIX. */
export function indexTemplates(prefix: string): IndexTemplate[] {
  return FIELD_CLASSES.map((what) => ({
    name: indexBase(prefix, what),
    index_patterns: [indexPattern(prefix, what)],
    priority: 500,
    version: 2,
    template: {
      settings: { number_of_shards: 1, auto_expand_replicas: "0-1", refresh_interval: "1s" },
      // What we do not name is kept in the document and not indexed.
      mappings: { dynamic: false, properties: PROPERTIES[what] },
      aliases: { [indexBase(prefix, what)]: {} },
    },
  }));
}

/** All days of a class, as an alias. */
export function indexBase(prefix: string, what: FieldClass): string {
  return `${prefix}-flows-${what}`;
}

export function indexPattern(prefix: string, what: FieldClass): string {
  return `${indexBase(prefix, what)}-*`;
}
