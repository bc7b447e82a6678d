/** Goal: Prometheus gets each engine's figures, by the names of the catalogue. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { engineFigures } from "../../../orchestrator/serving/engine-figures.ts";
import { serverRow } from "../../support/server-row.ts";

const METRICS = {
  at: "2026-06-01T12:00:00.000Z",
  running: 3,
  waiting: 1,
  kv_cache_usage: 0.25,
  prompt_tokens_total: 1_234_567,
  generation_tokens_total: 5_600,
  prompt_tokens_per_second: 400,
  generation_tokens_per_second: 44.4,
};

test("nothing up, nothing said", () => {
  assert.equal(engineFigures([]), "");
});

test("a line an engine, and none for what it has not said", () => {
  const text = engineFigures([
    serverRow({ pair: "p", side: "normal", model: "small", metrics: METRICS }),
    serverRow({ pair: "p", side: "thinking", model: "big", state: "starting" }),
  ]);
  const normal = '{provider="served/p/normal",model="small"}';
  const thinking = '{provider="served/p/thinking",model="big"}';
  assert.deepEqual(
    text.split("\n").filter((line) => !line.startsWith("#")),
    [
      `autocode_engine_requests_running${normal} 3`,
      `autocode_engine_requests_waiting${normal} 1`,
      `autocode_engine_kv_cache_usage_ratio${normal} 0.25`,
      `autocode_engine_prompt_tokens_total${normal} 1234567`,
      `autocode_engine_generation_tokens_total${normal} 5600`,
      `autocode_engine_up${normal} 1`,
      `autocode_engine_up${thinking} 0`,
      "",
    ],
  );
  // Each series is described once, right before its lines, as Prometheus' format wants it.
  const described = [...text.matchAll(/^# HELP (\w+) .+\n# TYPE (\w+) (gauge|counter)$/gm)];
  assert.equal(described.length, 6);
  for (const [, help, type, kind] of described) {
    assert.equal(help, type);
    assert.equal(kind === "counter", help?.endsWith("_total"));
  }
});
