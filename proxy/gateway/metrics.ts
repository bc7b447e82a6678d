/** The gateway's counters as Prometheus text. No ids in labels: those are in the ledger. */

export interface Metrics {
  count(name: string, labels: Readonly<Record<string, string>>, by?: number | bigint): void;
  gauge(name: string, read: () => number): void;
  text(): string;
}

const HELP: Readonly<Record<string, string>> = {
  autocode_gateway_calls_total: "Calls forwarded and ended",
  autocode_gateway_refusals_total: "Requests that were not forwarded",
  autocode_gateway_tokens_total: "Tokens billed",
  autocode_gateway_cost_nanos_total: "Nano-units settled",
  autocode_gateway_call_ms_total: "Milliseconds that calls took",
  autocode_gateway_calls_in_flight: "Calls running now",
  autocode_gateway_settlements_pending: "Calls ended and not settled yet",
};

export function createMetrics(): Metrics {
  const counters = new Map<string, Map<string, bigint>>();
  const gauges = new Map<string, () => number>();
  return { count, gauge: (name, read) => void gauges.set(name, read), text };

  function count(
    name: string,
    labels: Readonly<Record<string, string>>,
    by: number | bigint = 1,
  ): void {
    const key = Object.entries(labels)
      .map(([label, value]) => `${label}="${value.replace(/[\\"\n]/g, "_")}"`)
      .join(",");
    const rows = counters.get(name) ?? new Map<string, bigint>();
    counters.set(name, rows);
    rows.set(key, (rows.get(key) ?? 0n) + BigInt(by));
  }

  function text(): string {
    const lines: string[] = [];
    for (const [name, rows] of counters) {
      lines.push(`# HELP ${name} ${HELP[name] ?? name}`, `# TYPE ${name} counter`);
      for (const [labels, value] of rows) lines.push(`${name}{${labels}} ${value}`);
    }
    for (const [name, read] of gauges) {
      lines.push(`# HELP ${name} ${HELP[name] ?? name}`, `# TYPE ${name} gauge`);
      lines.push(`${name} ${read()}`);
    }
    return `${lines.join("\n")}\n`;
  }
}
