/** What `trial show` says of a trial's engines fits 80 columns and leaves out what nobody knows. */
import assert from "node:assert/strict";
import test from "node:test";
import { engineLines } from "../../../orchestrator/cli/engine-text.ts";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import { calls } from "../../support/ui-fixture-data.ts";
import { fixtureEngines } from "../../support/ui-fixture-engines.ts";

const START_MS = Date.UTC(2026, 10, 20, 12);
const ids = createIds({ now: () => START_MS }, seededRandom(1));
const engines = fixtureEngines(calls(ids, "trial_1", START_MS));

test("a hosted provider's calls, and an engine of ours with its load", () => {
  const lines = engineLines(engines);
  assert.deepEqual(lines, [
    "qwen3-thinking at openai",
    "  its calls  1, 0 failed, busy for 2.1 s",
    "  speed      226.6 output tokens/s, first token after 380 ms (95 % by 380 ms)",
    "  tokens     5120 prefilled, 0 from cache (0 %), 402 out",
    "qwen3-coder-next at served/qwen3-coder-next/normal",
    "  its calls  3, 1 failed, busy for 17.4 s",
    "  speed      141 output tokens/s, first token after 380 ms (95 % by 380 ms)",
    "  tokens     13084 prefilled, 6144 from cache (32 %), 1530 out",
    "  GPUs       4.6 s of GPU time, 13 % of all it had",
    "  meanwhile  3.72 ran (9 at most), 0.51 in line (3 at most, 90 ms a call)",
    "             cache 75 % full at most, 1 preemptions, 240 tokens/s for all",
  ]);
  assert.ok(lines.every((line) => line.length <= 80));
});

test("nothing of the scripted model, nor of what was not streamed", () => {
  const [hosted] = engines;
  assert.ok(hosted !== undefined);
  assert.deepEqual(engineLines([{ ...hosted, provider: "scripted" }]), []);
  const own = { ...hosted.calls, first_token_ms: null, output_tokens_per_second: null };
  const none = { ...own, input_tokens: 0, cached_tokens: 0, cached_share: null };
  assert.deepEqual(engineLines([{ ...hosted, calls: none }]).slice(2), [
    "  speed      nothing was streamed",
    "  tokens     0 prefilled, 0 from cache (none), 402 out",
  ]);
});
