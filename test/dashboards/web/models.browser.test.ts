/**
 * Goal: the models' pages show what is loaded, what it costs and why, what a plan would take, and
 * bring pairs up and down once each; on a phone too.
 *
 * Method: Chromium against the real API over a fixture of four kinds of plans.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Browser, BrowserContext, Locator, Page } from "playwright-core";
import type { TSchema } from "typebox";
import { Value } from "typebox/value";
import { TrialEngineList } from "../../../orchestrator/contract/engines.ts";
import { HardwareList, PairPlan, ServedPairList } from "../../../orchestrator/contract/models.ts";
import { PriceList, PriceReport } from "../../../orchestrator/contract/prices.ts";
import { PairList } from "../../../orchestrator/contract/system.ts";
import { complaintsOf, startBrowser, whyNoBrowser } from "../../support/browser.ts";
import { startUiFixture, type UiFixture } from "../../support/ui-fixture.ts";

const PHONE = { width: 390, height: 844 };

describe("the models' pages", { skip: whyNoBrowser(), timeout: 200_000 }, () => {
  let fixture: UiFixture;
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;
  let complaints: string[];

  before(async () => {
    browser = await startBrowser();
    fixture = await startUiFixture();
    context = await browser.newContext();
    page = await context.newPage();
    page.setDefaultTimeout(30_000);
    complaints = complaintsOf(page);
    await page.goto(fixture.loginUrl);
  });
  after(async () => {
    await browser.close();
    await fixture[Symbol.asyncDispose]();
  });

  test("the fixture's answers are the contract's", async () => {
    const answers: [string, TSchema][] = [
      ["pairs", PairList],
      ["prices", PriceList],
      ["prices/explain?model=qwen2.5-coder-7b-instruct", PriceReport],
      ["hardware", HardwareList],
      ["models/served", ServedPairList],
      [`trials/${fixture.ids.passed}/engines`, TrialEngineList],
    ];
    for (const [path, schema] of answers) {
      const body = await (await context.request.get(`${fixture.url}/api/v1/${path}`)).json();
      assert.deepEqual(Value.Errors(schema, body), [], path);
    }
    for (const [pair, gpu, gpu_count] of [
      ["coder-7b", "h100", 1],
      ["coder-14b", "l40s", 2],
      ["coder-32b", "h100", 1],
      ["coder-32b", "rtx-4090", 1],
    ]) {
      const data = { pair, gpu, gpu_count };
      const url = `${fixture.url}/api/v1/models/plan`;
      const headers = { origin: fixture.url };
      const plan = await (await context.request.post(url, { data, headers })).json();
      assert.deepEqual(Value.Errors(PairPlan, plan), []);
    }
  });

  test("pairs say how their engines are, who waits, what they cost and why", async () => {
    await page.getByRole("link", { name: "Models" }).click();
    const loaded = page.locator("[data-pair=coder-7b]");
    await loaded.getByText("loaded").waitFor();
    assert.match(await text(loaded), /3 trials wait for it; the next starts in about 4 m 12 s/);
    const normal = loaded.locator(".model-row").first();
    const cells = await normal.locator("td").allTextContents();
    assert.deepEqual(
      cells.map((cell) => cell.replaceAll(/\s+/g, " ").trim()),
      ["ready6 running, 0 waiting log", "6,259", "292", "41 %", "0.0810", "0.3240", "sum"],
    );
    await loaded.getByLabel("87 % of the KV cache is used").waitFor();
    await normal.getByRole("button", { name: /The sum behind the price of qwen2.5/ }).click();
    await loaded.getByText("3.50 x 10^6 / (3600 s x 6000 tokens/s x 0.5)").waitFor();
    await loaded.getByText("What its GPUs hold").click();
    await loaded.getByRole("img", { name: /^GPU 0: normal: weights 14\.2 GiB/ }).waitFor();

    const sleeping = page.locator("[data-pair=coder-32b]");
    assert.match(await text(sleeping), /sleeping.*1 restart/);
    assert.match(await text(sleeping), /nothing is known yet to tell how long/);
    const failed = page.locator("[data-pair=coder-9b]");
    assert.match(
      await text(failed),
      /failed.*CUDA out of memory.*starting.*pulls its weights: 34 %/,
    );
    const away = page.locator("[data-pair=anthropic]");
    assert.match(await text(away), /not set up.*set ANTHROPIC_API_KEY/);
    assert.deepEqual(complaints, []);
  });

  test("a pair is taken down once, however fast it is pressed", async () => {
    await page.goto(`${fixture.url}/models`);
    const failed = page.locator("[data-pair=coder-9b]");
    await failed.getByRole("button", { name: "Take coder-9b down" }).click();
    await failed.getByRole("button", { name: "Take down", exact: true }).dblclick();
    await failed.getByText("being taken down").waitFor();
    assert.deepEqual(fixture.models.downs, ["coder-9b"]);
    assert.deepEqual(complaints, []);
  });

  test("the planner answers what stands in the address, and says what would work", async () => {
    await page.goto(`${fixture.url}/models/plan?pair=coder-32b&gpu=rtx-4090`);
    await page.getByText("does not fit", { exact: true }).waitFor();
    await page.getByText("qwen2.5-coder-32b-instruct needs 61 GiB").waitFor();
    const residency = page.locator(".fit > p");
    const bars = page.locator(".fit-track");
    const labels = await bars.evaluateAll((all) => all.map((each) => each.ariaLabel));
    assert.equal(labels.length, 2);
    assert.match(labels[0] ?? "", /^GPU 0, if normal is alone: .* 40\.3 GiB too much$/);
    await page.getByRole("link", { name: /1 x h100/ }).click();
    await residency.getByText("one sleeps while the other works").waitFor();
    await residency.getByText("takes about 6.4 s").waitFor();
    assert.equal(new URL(page.url()).search, "?pair=coder-32b&gpu=h100&count=1");

    await page.getByLabel("Pair").selectOption("coder-14b");
    await page.getByLabel("How many GPUs").fill("2");
    await page.getByLabel("Sequences at once").fill("16");
    await residency.getByText("normal on GPU 0, thinking on GPU 1").waitFor();
    await page.getByRole("row", { name: /Output tokens\/s, 16 at once/ }).waitFor();
    assert.equal(new URL(page.url()).search, "?pair=coder-14b&gpu=h100&count=2&concurrency=16");
    await page.getByText("How it is worked out").click();
    await page.getByText("2 x 28 layers x 4 KV heads").first().waitFor();
    assert.deepEqual(complaints, []);

    await page.goto(`${fixture.url}/models/plan?gpu=h1000`);
    await page
      .getByRole("alert")
      .getByText('there is no GPU "h1000"; the nearest is h100')
      .waitFor();
  });

  test("a planned pair is brought up once, when its licence is accepted", async () => {
    await page.goto(`${fixture.url}/models/plan?pair=coder-3b&gpu=h100`);
    await page.getByRole("button", { name: "Bring up…" }).click();
    const up = page.getByRole("button", { name: "Bring up", exact: true });
    assert.equal(await up.isDisabled(), true);
    await page.getByLabel(/I accept the terms of qwen-research/).check();
    await up.dblclick();
    await page.locator("[data-pair=coder-3b]").getByText("starting").waitFor();
    assert.deepEqual(fixture.models.ups, [
      {
        plan: { pair: "coder-3b", gpu: "h100", gpu_count: 1 },
        accepted_licences: ["qwen-research"],
      },
    ]);
  });

  test("both fit a phone, and move nothing while they load", async () => {
    const phone = await context.newPage();
    await phone.setViewportSize(PHONE);
    await phone.addInitScript(`
      globalThis.shift = 0;
      new PerformanceObserver((list) => {
        for (const { value } of list.getEntries()) globalThis.shift += value;
      }).observe({ type: "layout-shift", buffered: true });
    `);
    for (const path of ["/models", "/models/plan?pair=coder-32b&gpu=rtx-4090"]) {
      await phone.goto(`${fixture.url}${path}`);
      await phone.locator(".pair, .fit-track").first().waitFor();
      const excess = await phone.evaluate("document.documentElement.scrollWidth - innerWidth");
      assert.ok(Number(excess) <= 0, `${path} is ${excess} px too wide`);
      const shift = Number(await phone.evaluate("globalThis.shift"));
      assert.ok(shift < 0.05, `${path}: ${shift}`);
    }
  });

  test("a trial's engines: what its calls got, and how loaded they were; on a phone too", async () => {
    const before = complaints.length;
    await page.goto(`${fixture.url}/trials/${fixture.ids.passed}`);
    await page.getByRole("link", { name: "Engines" }).click();
    const ours = page.locator(".engine", { hasText: "served/qwen3-coder-next/normal" });
    await ours
      .getByRole("img", { name: /^Sequences of the engine .*: at most 12 at once$/ })
      .waitFor();
    const told = /First token380 ms.*Prefill tokens13,084.*GPU time4\.5 s.*In line.*Preemptions1/s;
    assert.match((await ours.textContent()) ?? "", told);
    const hosted = page.locator(".engine", { hasText: "No figures of the server itself" });
    assert.equal(await hosted.locator("svg").count(), 0);
    await page.setViewportSize(PHONE);
    assert.ok(await page.evaluate("document.documentElement.scrollWidth <= innerWidth"));
    await page.setViewportSize({ width: 1280, height: 720 });
    await page.goto(`${fixture.url}/trials/${fixture.ids.running}/engines`);
    await page.getByText("No calls yet").waitFor();
    assert.deepEqual(complaints.slice(before), []);
  });
});

/** As it reads, whatever space its markup has. */
async function text(locator: Locator): Promise<string> {
  return ((await locator.textContent()) ?? "").trim().replaceAll(/\s+/g, " ");
}
