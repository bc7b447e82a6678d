/**
 * Goal: what our gateway takes from a model server is what vLLM itself does: its streams and counts
 * in every dialect, its tools and its reasoning, its refusals, and how it is left, reached by
 * nobody else, and lost. Each call that was not cut is settled by the engine's own counters.
 *
 * Method: one real engine, on processors, with a tiny model of random weights: it writes noise, and
 * everything around the noise is an engine's. It is killed in the end, by the last of the checks.
 */
import test from "node:test";
import type { TestGatewayOptions } from "../../support/gateway.ts";
import { openVllm, vllmSkip } from "../../support/vllm.ts";
import { testCalls } from "./engine/calls.ts";
import { testCrash } from "./engine/crash.ts";
import { testCuts } from "./engine/cuts.ts";
import { gatewayTo } from "./engine/gateway.ts";
import { testReach } from "./engine/reach.ts";
import { testToolParser } from "./engine/tool-parser.ts";
import { testTrial } from "./engine/trial.ts";

/** Its start alone takes minutes where others work beside it. */
const TIMEOUT_MS = 1_500_000;

test("vLLM behind the gateway", { skip: vllmSkip, timeout: TIMEOUT_MS }, async (t) => {
  await using engine = await openVllm();
  const open = (more: TestGatewayOptions = {}) => gatewayTo(engine, more);
  await testCalls(t, engine, open);
  await testToolParser(t, open);
  await testCuts(t, engine, open);
  await testReach(t, engine, open);
  await testTrial(t, engine);
  await testCrash(t, engine, open);
});
