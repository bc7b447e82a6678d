/**
 * What the gateway counts, for Prometheus. No ids in labels: those are in the ledger.
 *
 * A call costs some two microseconds here; gauges are read when somebody asks.
 */
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { FinishedCall } from "./calls.ts";
import type { RefusalCode } from "./refusal.ts";

export interface Metrics {
  countCall(ended: FinishedCall, currency: string): void;
  countRefusal(code: RefusalCode): void;
  /** Time that we added before a call was forwarded: reading it, reserving for it. */
  addedBefore(ms: number): void;
  /** Time from the last byte of the model server to the end of our answer. */
  addedAfter(ms: number): void;
  /** Prometheus text. */
  text(): Promise<string>;
}

/** What is read when the text is asked for. */
export interface MetricSources {
  callsInFlight(): number;
  settlementsPending(): number;
  bodiesDropped(): number;
  recordsLost(): number;
}

const PREFIX = "autocode_gateway_";
const ADDED_BUCKETS_S = [
  ...[0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.003, 0.005],
  ...[0.01, 0.02, 0.05, 0.1, 0.5, 1, 5],
];
const CALL_BUCKETS_S = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800];

export function createMetrics(sources: MetricSources): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const counter = <Label extends string>(name: string, help: string, labelNames: Label[]) =>
    new Counter({ name: PREFIX + name, help, labelNames, registers });
  const histogram = (name: string, help: string, buckets: number[]) =>
    new Histogram({ name: PREFIX + name, help, buckets, registers });
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      ...{ name: PREFIX + name, help, registers },
      collect() {
        this.set(read());
      },
    });

  const labels = ["wire", "side", "status", "resolution"] as const;
  const calls = counter("calls_total", "Calls forwarded and ended", [...labels]);
  const refusals = counter("refusals_total", "Requests that were not forwarded", ["code"]);
  const estimated = counter("estimated_calls_total", "Calls charged by our own count", ["side"]);
  const tokens = counter("tokens_total", "Tokens billed", ["kind", "side"]);
  const cost = counter("cost_nanos_total", "Nano-units settled", ["currency"]);
  const before = histogram(
    "added_before_seconds",
    "From a request read whole to its forwarding: our own work and the reservation",
    ADDED_BUCKETS_S,
  );
  const after = histogram(
    "added_after_seconds",
    "From the last byte of the model server to the end of our answer",
    ADDED_BUCKETS_S,
  );
  const first = histogram("first_byte_seconds", "To the head of an answer", CALL_BUCKETS_S);
  const whole = histogram("call_seconds", "From a request read to its end", CALL_BUCKETS_S);
  gauge("calls_in_flight", "Calls running now", sources.callsInFlight);
  gauge("settlements_pending", "Calls ended and not settled yet", sources.settlementsPending);
  gauge("bodies_dropped", "Bodies cut short in records, for want of room", sources.bodiesDropped);
  gauge("records_lost", "Exchanges whose record was not written", sources.recordsLost);

  return {
    countCall,
    countRefusal: (code) => refusals.inc({ code }),
    addedBefore: (ms) => before.observe(ms / 1_000),
    addedAfter: (ms) => after.observe(ms / 1_000),
    text: () => registry.metrics(),
  };

  function countCall(ended: FinishedCall, currency: string): void {
    const { wire, side, usage, resolution } = ended;
    calls.inc({ wire, side, status: String(ended.status), resolution });
    if (ended.isEstimated) estimated.inc({ side });
    countTokens("input", side, usage.inputTokens);
    countTokens("cache_read", side, usage.cacheReadTokens);
    countTokens("cache_write", side, usage.cacheWriteTokens);
    countTokens("output", side, usage.outputTokens);
    cost.inc({ currency }, Number(ended.costNanos));
    if (ended.firstByteAtMs !== null) observe(first, ended.firstByteAtMs - ended.startedAtMs);
    observe(whole, ended.endedAtMs - ended.startedAtMs);
  }

  function countTokens(kind: string, side: string, count: number): void {
    if (count > 0) tokens.inc({ kind, side }, count);
  }
}

/** A clock that was set back makes no negative time. */
function observe(histogram: Histogram, ms: number): void {
  histogram.observe(Math.max(0, ms) / 1_000);
}
