/** Goal: what was kept of a trial is shown as its tree, and forked from with one request. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Value } from "typebox/value";
import { type Checkpoint, CheckpointTree } from "../../../orchestrator/contract/checkpoints.ts";
import { complaintsOf, startBrowser, whyNoBrowser } from "../../support/browser.ts";
import { startUiFixture } from "../../support/ui-fixture.ts";
import { fixtureTree } from "../../support/ui-fixture-checkpoints.ts";
import { trial } from "../../support/ui-fixture-data.ts";

// The pages' modules are the browser's own, which TypeScript reads no types of.
const MODULE = "../../../dashboards/web/app/checkpoint-rows.js";
const { treeRows } = (await import(MODULE)) as {
  treeRows: (tree: CheckpointTree) => { depth: number; checkpoint: Checkpoint | null }[];
};

test("forks stand below the checkpoint that they began with", () => {
  const tree = fixtureTree(trial("trial_1", Date.parse("2026-11-21T12:00:00Z"), {}));
  assert.ok(Value.Check(CheckpointTree, tree));
  const rows = treeRows(tree).map(({ depth, checkpoint }) => [depth, checkpoint?.cause ?? null]);
  assert.deepEqual(rows, [
    [0, null],
    [0, "periodic"],
    [0, "phase"],
    [1, null],
    [1, "periodic"],
    [1, "end"],
    [0, "periodic"],
    [0, "end"],
  ]);
});

test("the tree, and a fork by another agent", { skip: whyNoBrowser() }, async () => {
  await using fixture = await startUiFixture();
  const browser = await startBrowser();
  try {
    const page = await browser.newPage({ viewport: { width: 1280, height: 1000 } });
    page.setDefaultTimeout(60_000);
    const complaints = complaintsOf(page);
    await page.goto(fixture.loginUrl);
    await page.goto(`${fixture.url}/trials/${fixture.ids.passed}/checkpoints`);
    const table = page.getByRole("table");
    await table.getByText("This trial").waitFor();
    assert.equal(await table.getByRole("button", { name: "Fork" }).count(), 6);
    assert.equal(await table.getByRole("link", { name: "aider" }).count(), 1);
    const shot = process.env["AUTOCODE_SCREENSHOTS"];
    if (shot !== undefined) await page.screenshot({ path: `${shot}/checkpoints.png` });

    await table.getByRole("button", { name: "Fork" }).nth(1).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Model pair").selectOption("openai");
    if (shot !== undefined) await page.screenshot({ path: `${shot}/fork.png` });
    await dialog.getByRole("button", { name: "Fork" }).click();
    await page.waitForURL((url) => /\/trials\/trial_\w+$/.test(url.pathname));
    const { checkpoints } = fixtureTree(await shown());
    assert.deepEqual(fixture.forks, [
      { checkpoint_id: checkpoints[1]?.id, agent: "qwen-code", pair: "openai" },
    ]);
    await page.getByText("forked").first().waitFor();
    assert.deepEqual(complaints, []);
  } finally {
    await browser.close();
  }

  async function shown() {
    const found = fixture.trials.find(({ id }) => id === fixture.ids.passed);
    assert.ok(found !== undefined);
    return found;
  }
});
