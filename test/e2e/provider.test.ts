/**
 * Goal: a project's own `models:` entry brings a provider of its own, priced by the file; one
 * without a price is refused; a provider's own variables make its pairs available.
 *
 * Method: the scripted model as a process of its own stands for the provider.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import test from "node:test";
import type { Trial } from "../../orchestrator/contract/trials.ts";
import { makeProject, ROOT, startInstallation, whyNoAgents } from "../support/installation.ts";

const skip = await whyNoAgents("claude-code");
const MILLION = 1_000_000n;

test("the example runs on a provider of the project's own", { skip }, async (t) => {
  const main = join(ROOT, "models/scripted/main.ts");
  const scripts = join(ROOT, "examples/scripts");
  const provider = spawn(process.execPath, [main, "--scripts", scripts, "--port", "0"]);
  try {
    const [line] = await once(provider.stdout, "data");
    const url = /http:\/\/127\.0\.0\.1:\d+/.exec(String(line))?.[0] ?? "";
    await using installation = await startInstallation({
      env: { OPENAI_BASE_URL: `${url}/v1`, OPENAI_API_KEY: "sk-of-the-owner" },
    });
    const model = (side: string, rest: string) =>
      `${side}: { model: scripted-${side}, base_url: "${url}", wires: [anthropic.messages]${rest} }`;
    const models = (rest: string) =>
      `models: { mine: { ${model("normal", rest)}, ${model("thinking", rest)} } }`;

    await t.test("priced by the project's file", async () => {
      const price = ', price: { input: "1", output: "2" }';
      await makeProject(installation, "own", ["pairs: [mine]", models(price)]);
      const what = ["--project", "own", "--task", "fix-median", "-a", "claude-code"];
      const trial = await installation.json<Trial>("trial", "run", ...what);
      assert.deepEqual([trial.verdict, trial.pair], ["passed", "mine"]);
      const calls = await installation.calls(trial.id);
      assert.ok(calls.length > 2);
      for (const { usage, cost_nanos: cost } of calls) {
        const tokens = BigInt(usage.input_tokens) + 2n * BigInt(usage.output_tokens);
        assert.equal(BigInt(cost), (tokens * 1_000_000_000n) / MILLION);
      }
    });

    await t.test("without a price it is refused", async () => {
      const text = `project: free\ncurrency: CAD\nbudget: { total: 1, per_trial: 0.5 }\n`;
      await writeFile(
        join(installation.folder, "free.yaml"),
        `${text}${models("").replaceAll("scripted-", "unheard-of-")}\n`,
      );
      const applied = await installation.cli("project", "apply", "-p", "free.yaml");
      const task = ["--task", join(ROOT, "examples/tasks/fix-median"), "-a", "claude-code"];
      const refused =
        applied.exit === 0
          ? await installation.cli("trial", "run", "--project", "free", ...task, "-m", "mine")
          : applied;
      assert.equal(refused.exit, 2, refused.err);
      assert.match(refused.err, /^autocode: [^\n]*price[^\n]*\n$/);
    });

    await t.test("a provider's own variables make its pairs available", async () => {
      const { out } = await installation.cli("model", "ls");
      assert.match(out, /^openai +gpt.* openai +yes\b/m);
      assert.doesNotMatch(out, /^anthropic .* anthropic +yes\b/m);
      assert.doesNotMatch(out, /sk-of-the-owner/);
    });
  } finally {
    provider.kill("SIGTERM");
    await once(provider, "exit");
  }
});
