/** Engines' own figures for Prometheus, as they were last scraped. Pure. */
import type { EngineMetrics } from "../contract/models.ts";
import { providerName, type ServerRow } from "./rows.ts";

interface Figure {
  name: string;
  type: "gauge" | "counter";
  help: string;
  of: (metrics: EngineMetrics) => number;
}

const FIGURES: readonly Figure[] = [
  {
    name: "autocode_engine_requests_running",
    type: "gauge",
    help: "Calls that the engine works on",
    of: ({ running }) => running,
  },
  {
    name: "autocode_engine_requests_waiting",
    type: "gauge",
    help: "Calls in the engine's own line",
    of: ({ waiting }) => waiting,
  },
  {
    name: "autocode_engine_kv_cache_usage_ratio",
    type: "gauge",
    help: "Share of its cache that is in use",
    of: ({ kv_cache_usage: usage }) => usage,
  },
  {
    name: "autocode_engine_prompt_tokens_total",
    type: "counter",
    help: "Input tokens, as the engine counts them since it started",
    of: ({ prompt_tokens_total: total }) => total,
  },
  {
    name: "autocode_engine_generation_tokens_total",
    type: "counter",
    help: "Output tokens, as the engine counts them since it started",
    of: ({ generation_tokens_total: total }) => total,
  },
];

/** Empty while nothing is up. Labels are names of the catalogue, never ids. */
export function engineFigures(servers: readonly ServerRow[]): string {
  if (servers.length === 0) return "";
  const lines = FIGURES.flatMap(({ name, type, help, of }) => [
    `# HELP ${name} ${help}`,
    `# TYPE ${name} ${type}`,
    ...servers.flatMap((row) =>
      row.metrics === null ? [] : [`${name}${labels(row)} ${of(row.metrics)}`],
    ),
  ]);
  const up = "autocode_engine_up";
  lines.push(`# HELP ${up} Whether it takes calls`, `# TYPE ${up} gauge`);
  for (const row of servers) lines.push(`${up}${labels(row)} ${row.state === "ready" ? 1 : 0}`);
  return `${lines.join("\n")}\n`;
}

function labels(row: ServerRow): string {
  return `{provider="${providerName(row)}",model="${row.model}"}`;
}
