/** Goal: the text is Prometheus' format, whatever the labels hold. */
import assert from "node:assert/strict";
import test from "node:test";
import { createMetrics } from "../../../proxy/gateway/metrics.ts";

test("counters and gauges", () => {
  const metrics = createMetrics();
  metrics.count("autocode_gateway_cost_nanos_total", { currency: "CAD" }, 2n ** 60n);
  metrics.count("autocode_gateway_cost_nanos_total", { currency: "CAD" }, 1);
  metrics.count("other_total", { a: 'x"\n\\y' });
  metrics.gauge("autocode_gateway_calls_in_flight", () => 3);
  assert.equal(
    metrics.text(),
    [
      "# HELP autocode_gateway_cost_nanos_total Nano-units settled",
      "# TYPE autocode_gateway_cost_nanos_total counter",
      'autocode_gateway_cost_nanos_total{currency="CAD"} 1152921504606846977',
      "# HELP other_total other_total",
      "# TYPE other_total counter",
      'other_total{a="x___y"} 1',
      "# HELP autocode_gateway_calls_in_flight Calls running now",
      "# TYPE autocode_gateway_calls_in_flight gauge",
      "autocode_gateway_calls_in_flight 3",
      "",
    ].join("\n"),
  );
});
