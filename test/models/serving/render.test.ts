/**
 * Goal: what is rendered can be run by hand: a shell reads the scripts as they were meant, and what
 * a form cannot serve is refused.
 *
 * Method: golden texts; the scripts run by sh with a Python that prints what it was given. Compose
 * and Nomad read theirs in test/tools/.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { renderPair } from "../../../models/serving/render.ts";
import { vllmCommand } from "../../../models/serving/vllm-command.ts";
import { CatalogError } from "../../../models/yaml-file.ts";
import type { RenderForm } from "../../../orchestrator/contract/model-render.ts";
import { CODER_CARD, modelPlan, pairPlan, REASONER_CARD } from "../../support/model-plan.ts";
import { RENDER_FACTS } from "../../support/model-render.ts";

const ALTERNATING = pairPlan({
  gpu_count: 1,
  residency: "alternate",
  models: [modelPlan(CODER_CARD), modelPlan(REASONER_CARD)],
  swap_ms: 4000,
});

for (const form of ["nomad", "compose"] as const) {
  test(`A pair as ${form}`, (t) => {
    const { files, commands, notes } = renderPair(pairPlan(), form, RENDER_FACTS);
    const shown = files.map(({ name, text }) => `== ${name}\n${text}`);
    const text = [...shown, "== commands", ...commands, "== notes", ...notes, ""].join("\n");
    t.assert.snapshot(text, { serializers: [String] });
  });
}

test("The scripts start what vllm-command.ts says, with its environment", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "autocode render's "));
  t.after(() => rm(folder, { recursive: true }));
  const python = join(folder, "python");
  const script = 'printf "%s\\n" "$0" "$@" "VISIBLE=$CUDA_VISIBLE_DEVICES"\n';
  await writeFile(python, `#!/bin/sh\n${script}`);
  await chmod(python, 0o755);
  const { files, commands } = renderPair(pairPlan(), "vllm", { ...RENDER_FACTS, python });
  for (const [index, { name, text }] of files.entries()) {
    await writeFile(join(folder, name), text);
    const { stdout, status, stderr } = spawnSync("sh", [name], { cwd: folder, encoding: "utf8" });
    assert.equal(status, 0, stderr);
    const plan = pairPlan().models[index];
    const card = index === 0 ? CODER_CARD : REASONER_CARD;
    assert.ok(plan !== undefined);
    const weightsDir = RENDER_FACTS.weightsDirs.get(card.name) ?? null;
    const where = { host: "127.0.0.1", port: 8101 + index, python };
    const { argv } = vllmCommand({ card, plan, weightsDir, ...where });
    assert.deepEqual(stdout.trimEnd().split("\n"), [...argv, `VISIBLE=${plan.gpus.join(",")}`]);
  }
  assert.deepEqual(
    files.map(({ name }) => name),
    ["coder-14b-normal.sh", "coder-14b-thinking.sh"],
  );
  assert.equal(commands[0], "sh coder-14b-normal.sh &");
});

test("Models that alternate can be put to sleep by hand, one before the other starts", () => {
  const { files, commands, notes } = renderPair(ALTERNATING, "vllm", RENDER_FACTS);
  for (const { text } of files) assert.match(text, /--enable-sleep-mode/);
  const asleep = commands.findIndex((each) => each.includes("/sleep?level=1"));
  assert.ok(asleep > 0 && asleep < commands.indexOf("sh coder-14b-thinking.sh &"));
  assert.match(notes.join("\n"), /run anything in the engine/);
});

test("Weights that are not here are said, and fetched by the engine", () => {
  const facts = { ...RENDER_FACTS, weightsDirs: new Map<string, string>() };
  const { files, notes } = renderPair(pairPlan(), "compose", facts);
  assert.match(notes.join("\n"), /autocode model pull coder-14b first/);
  assert.match(files[0]?.text ?? "", /Qwen\/Qwen2.5-Coder-14B-Instruct/);
});

for (const [name, form, plan, message] of [
  ["a pair that does not fit", "vllm", lacking(), /lacks 3 GiB.*Instead: fp8; or 2 x l4/],
  ["turns in Nomad", "nomad", ALTERNATING, /autocode model up coder-14b has them take turns/],
  ["sharing in Nomad", "nomad", pairPlan({ residency: "together" }), /Nomad gives whole ones/],
  ["turns in Compose", "compose", ALTERNATING, /render it as vllm/],
  ["turns in Ray", "ray", ALTERNATING, /does not put engines to sleep/],
] as const) {
  test(`Refused: ${name}`, () => {
    assert.throws(
      () => renderPair(plan, form satisfies RenderForm, RENDER_FACTS),
      (error) => error instanceof CatalogError && message.test(error.message),
    );
  });
}

function lacking() {
  const advice = ["fp8", "2 x l4"];
  return pairPlan({ fits: false, residency: "none", refusal: "It lacks 3 GiB", advice });
}
