/** A whole trial, with an agent's own CLI, whose models are the engine's. */
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import type { Trial } from "../../../../orchestrator/contract/trials.ts";
import { eventually } from "../../../support/eventually.ts";
import { makeProject, startInstallation, whyNoAgents } from "../../../support/installation.ts";
import { TINY_CARD, type Vllm } from "../../../support/vllm.ts";

/** Its prompt is short, and it takes noise for an answer. */
const AGENT = "claude-code";
const COUNTED_MS = 60_000;
const PRICE = { input: 1_000n, output: 2_000n };

export async function testTrial(t: TestContext, engine: Vllm): Promise<void> {
  const skip = await whyNoAgents(AGENT);
  await t.test(
    "a trial ends with a verdict, and is charged by its counters",
    { skip },
    async () => {
      await using installation = await startInstallation({ env: { VLLM_BASE_URL: engine.url } });
      const model = `{ model: ${TINY_CARD.name}, provider: vllm, wires: [anthropic.messages],
      context_tokens: ${TINY_CARD.contextTokens}, max_output_tokens: 2048,
      price: { input: "1", output: "2", cache_read: "1", cache_write: "1" } }`;
      await makeProject(installation, "own-gpus", [
        `agents: [${AGENT}]`,
        "pairs: [tiny]",
        `models: { tiny: { normal: ${model}, thinking: ${model} } }`,
      ]);
      const before = await engine.counted();
      const what = ["--project", "own-gpus", "--task", "fix-median", "-a", AGENT, "-m", "tiny"];
      const { out, err } = await installation.cli("trial", "run", ...what, "--json");
      const trial = JSON.parse(out === "" ? "null" : out) as Trial | null;
      assert.ok(trial !== null, err);
      // Noise mends nothing.
      assert.deepEqual([trial.state, trial.verdict], ["failed", "failed"], `${out}${err}`);

      const calls = await installation.calls(trial.id);
      assert.ok(calls.length > 0);
      let [input, output, spent, whole] = [0, 0, 0n, 0];
      for (const { usage, cost_nanos: cost, is_estimated, error, status } of calls) {
        const read = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens;
        const exact = BigInt(read) * PRICE.input + BigInt(usage.output_tokens) * PRICE.output;
        assert.equal(BigInt(cost), exact);
        spent += exact;
        if (status !== 200 || is_estimated || error !== null) continue;
        whole++;
        input += read;
        output += usage.output_tokens;
      }
      assert.deepEqual(
        [trial.budget?.spent_nanos, trial.budget?.reserved_nanos],
        [String(spent), "0"],
      );
      assert.ok(whole > 0, "no call came to its end");
      // Of a call that the agent cut the engine counts also what nobody read.
      const isAsCounted = (counted: number, charged: number) =>
        whole === calls.length ? counted === charged : counted >= charged;
      await eventually(
        async () => {
          const { inputTokens, outputTokens } = await engine.counted();
          return [inputTokens - before.inputTokens, outputTokens - before.outputTokens] as const;
        },
        ([counted, made]) => isAsCounted(counted, input) && isAsCounted(made, output),
        COUNTED_MS,
      );
    },
  );
}
