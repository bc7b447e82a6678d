/** Goal: the store asks the configured hub, with the token of the environment or the secrets. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { buildWeights } from "../../orchestrator/compose-weights.ts";
import { readConfig } from "../../orchestrator/config.ts";
import { openTestDatabase } from "../support/database.ts";
import { openWeightWorld, problem } from "../support/weights.ts";

async function tokensSent(env: Record<string, string>): Promise<Set<string | null>> {
  await using world = await openWeightWorld();
  const { serving } = readConfig({ AUTOCODE_WEIGHTS_URL: `${world.hub.url}/`, ...env });
  const asked: string[] = [];
  const get = async (path: string) => {
    asked.push(path);
    return { value: "hf_of_the_secrets", version: 1 };
  };
  const cards = new Map([[world.card.name, world.card]]);
  await using db = await openTestDatabase();
  const parts = { layout: { weights: world.dir }, secrets: { get }, cards, db };
  const catalog = { pairs: new Map() };
  await using built = buildWeights({ ...parts, catalog }, { serving });
  await world.pull({}, built.weights);
  assert.deepEqual((await built.pulls.list()).weights.length, 1);
  assert.ok(asked.every((path) => path === "provider/huggingface/key"));
  return new Set(
    world.hub.seen.filter(({ host }) => host === "hub").map((each) => each.authorization),
  );
}

test("the token is the environment's, else the secret's", async () => {
  assert.deepEqual([...(await tokensSent({}))], ["Bearer hf_of_the_secrets"]);
  assert.deepEqual([...(await tokensSent({ HF_TOKEN: "hf_own" }))], ["Bearer hf_own"]);
});

test("offline there is no hub", async () => {
  await assert.rejects(
    tokensSent({ AUTOCODE_OFFLINE: "on" }),
    problem("conflict", /AUTOCODE_OFFLINE/),
  );
});
