/** What the environment says of egress and of the record of traffic. */
import type { Reader } from "./config-engines.ts";

export interface EgressConfig {
  engine: "embedded" | "mitmproxy";
  /** 0: any free port. */
  port: number;
  /** Of who answers replays; 0: any free port. */
  replayPort: number;
  /** Where workers reach proxies that run as processes of their own: we then start none. */
  url: string | null;
  /** mitmproxy's program; null: as it is found by its name. */
  mitmdump: string | null;
  /** How much may wait on our disk for the store. */
  spoolBytesMax: number;
  /** Of what the store has, how much stays on our disk for a Filebeat; 0: nothing. */
  keptBytesMax: number;
  /** Of one body, in the record. */
  bodyBytesMax: number;
  /** What one worker may have at a time at one proxy. */
  perSession: { connectionsMax: number; exchangesMax: number; heldBytesMax: number };
}

export interface ElasticsearchConfig {
  url: string;
  apiKey: string | null;
  username: string | null;
  password: string | null;
  /** Of its certificate's authority, a file; null: the system's. */
  authorityFile: string | null;
  /** What our data streams' names begin with. */
  prefix: string;
}

export function readEgress(read: Reader): EgressConfig {
  return {
    engine: read.oneOf("AUTOCODE_EGRESS", ["embedded", "mitmproxy"], "embedded"),
    port: read.integer("AUTOCODE_EGRESS_PORT", 0, 0, 65_535),
    replayPort: read.integer("AUTOCODE_REPLAY_PORT", 0, 0, 65_535),
    url: read.address("AUTOCODE_EGRESS_URL", /^http:\/\//),
    mitmdump: read.text("AUTOCODE_MITMDUMP") ?? null,
    spoolBytesMax: read.integer("AUTOCODE_SPOOL_BYTES", 2 ** 30, 2 ** 20, 2 ** 40),
    keptBytesMax: read.integer("AUTOCODE_SPOOL_KEPT_BYTES", 0, 0, 2 ** 40),
    bodyBytesMax: read.integer("AUTOCODE_BODY_BYTES", 2 ** 20, 0, 2 ** 26),
    perSession: {
      connectionsMax: read.integer("AUTOCODE_EGRESS_CONNECTIONS", 256, 1, 10_000),
      exchangesMax: read.integer("AUTOCODE_EGRESS_EXCHANGES", 256, 1, 10_000),
      heldBytesMax: read.integer("AUTOCODE_EGRESS_HELD_BYTES", 2 ** 26, 2 ** 20, 2 ** 34),
    },
  };
}

/** Null unless ELASTICSEARCH_URL is set: records then lie in our own database. */
export function readElasticsearch(read: Reader): ElasticsearchConfig | null {
  const url = read.address("ELASTICSEARCH_URL", /^https?:\/\//);
  if (url === null) return null;
  return {
    url,
    apiKey: read.text("ELASTICSEARCH_API_KEY") ?? null,
    username: read.text("ELASTICSEARCH_USERNAME") ?? null,
    password: read.text("ELASTICSEARCH_PASSWORD") ?? null,
    authorityFile: read.text("ELASTICSEARCH_CA_FILE") ?? null,
    prefix: read.text("ELASTICSEARCH_PREFIX") ?? "autocode",
  };
}
