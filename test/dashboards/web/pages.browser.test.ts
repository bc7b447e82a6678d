/**
 * Goal: the pages show what the API says, as it changes, to anyone, whatever an agent wrote.
 *
 * Method: Chromium against the real API over a fixture; every page is watched for complaints,
 * and markup from an agent would set `wasRun`.
 */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import type { Browser, BrowserContext, Page } from "playwright-core";
import type { TSchema } from "typebox";
import { Value } from "typebox/value";
import {
  AdherenceReport,
  BudgetEventList,
  BudgetReport,
  CostReport,
  ProfitReport,
  Statement,
} from "../../../orchestrator/contract/budgets.ts";
import { CallList } from "../../../orchestrator/contract/calls.ts";
import { EventPage } from "../../../orchestrator/contract/events.ts";
import { LedgerReport, LedgerStatus } from "../../../orchestrator/contract/ledger.ts";
import { ProjectList } from "../../../orchestrator/contract/projects.ts";
import { DoctorReport } from "../../../orchestrator/contract/system.ts";
import { ExperimentList, TrialPage } from "../../../orchestrator/contract/trials.ts";
import { complaintsOf, startBrowser, whyNoBrowser } from "../../support/browser.ts";
import { eventually } from "../../support/eventually.ts";
import { startUiFixture, type UiFixture } from "../../support/ui-fixture.ts";
import { balance, MARKUP } from "../../support/ui-fixture-data.ts";

const FIRST_LOAD_BYTES = 100_000;
const PHONE = { width: 390, height: 844 };

describe("the web UI", { skip: whyNoBrowser(), timeout: 400_000 }, () => {
  let fixture: UiFixture;
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;
  let complaints: string[];

  before(async () => {
    browser = await startBrowser();
  });
  after(() => browser.close());
  beforeEach(async () => {
    fixture = await startUiFixture();
    context = await browser.newContext();
    page = await context.newPage();
    page.setDefaultTimeout(30_000);
    complaints = complaintsOf(page);
    await page.goto(fixture.loginUrl);
  });
  afterEach(async () => {
    await context.close();
    await fixture[Symbol.asyncDispose]();
  });

  test("the fixture's answers are the contract's", async () => {
    const { passed } = fixture.ids;
    const answers: [string, TSchema][] = [
      ["trials", TrialPage],
      ["experiments", ExperimentList],
      ["projects", ProjectList],
      [`trials/${passed}/calls`, CallList],
      [`trials/${passed}/events`, EventPage],
      ["budgets/tidy-cli", BudgetReport],
      ["budgets/tidy-cli/statement", Statement],
      ["budgets/tidy-cli/events", BudgetEventList],
      ["budgets/tidy-cli/costs?by=phase", CostReport],
      ["budgets/tidy-cli/profit", ProfitReport],
      ["budgets/tidy-cli/adherence", AdherenceReport],
      ["ledger", LedgerStatus],
      ["ledger/verify", LedgerReport],
      ["doctor", DoctorReport],
    ];
    for (const [path, schema] of answers) {
      const body = await (await context.request.get(`${fixture.url}/api/v1/${path}`)).json();
      assert.deepEqual(Value.Errors(schema, body), [], path);
    }
  });

  test("the list shows trials and experiments, and follows them without a reload", async () => {
    const { running } = fixture.ids;
    const row = page.locator(`[data-trial=${running}]`);
    await row.getByText("running").waitFor();
    const cell = page.locator(".matrix tbody tr", { hasText: "qwen-code" }).locator("td").first();
    assert.match((await cell.textContent()) ?? "", /1\/1 passed\s*0\.0423/);
    assert.equal(await page.locator(".trials .scripted").count(), 3);

    await page.locator(".live.live").waitFor();
    await page.evaluate("globalThis.isSamePage = true");
    fixture.change(
      running,
      {
        state: "succeeded",
        verdict: "passed",
        duration_ms: 61_000,
        budget: balance(500_000_000n, 250_000_000n),
      },
      { type: "trial.state", data: { from: "verifying", to: "succeeded" } },
    );
    await row.locator(".verdict.passed").waitFor();
    assert.match((await row.textContent()) ?? "", /succeeded.*0\.25.*1 m 01 s/s);

    const fresh = running.replace(/.$/, (last) => (last === "0" ? "1" : "0")) as typeof running;
    fixture.change(
      fresh,
      { state: "queued", verdict: null, task: "just-made" },
      { type: "trial.state", data: { to: "queued" } },
    );
    await page.getByRole("link", { name: "just-made" }).waitFor();
    assert.equal(await page.evaluate("globalThis.isSamePage"), true);
    assert.deepEqual(complaints, []);
  });

  test("filters narrow the list and stand in the address", async () => {
    await page.getByLabel("State").selectOption("paused");
    await page.waitForURL("**/?state=paused");
    // The list is empty while it loads, and before that the old one.
    const rowCount = () => page.locator("tr[data-trial]").count();
    await eventually(rowCount, (count) => count === 1);
    await page.getByRole("link", { name: "stream-csv-export" }).waitFor();
    await page.getByLabel("Project").selectOption("shop-api");
    await page.getByText("No trial fits this filter").waitFor();
    await page.getByRole("link", { name: "Show all trials" }).click();
    await page.getByRole("link", { name: "add-retry-header" }).waitFor();
  });

  test("a trial's tabs: timeline, calls with their sum, diff, artefacts", async () => {
    await page.locator(`[data-trial=${fixture.ids.passed}] a`).click();
    await page.locator(".ev", { hasText: "Verdict: passed" }).waitFor();
    await page.locator("summary", { hasText: "read_file" }).press("Enter");
    await page.getByText('"limit": 200').waitFor();

    await page.getByRole("link", { name: /^Calls/ }).click();
    const total = page.locator("tfoot");
    await total.waitFor();
    assert.match(
      (await total.textContent()) ?? "",
      /Total of 4 calls.*24,348.*6,144.*1,932.*0\.0423/s,
    );
    await page.getByText("estimated", { exact: true }).waitFor();

    await page.getByRole("link", { name: "Diff" }).click();
    const file = page.locator(".diff-file", { hasText: "date.js" }).first();
    await file.locator("tr.added").first().waitFor();
    assert.equal(await file.locator("tr.added").count(), 5);
    await file.locator("summary").click();
    await file.locator("tr.added").first().waitFor({ state: "hidden" });

    await page.getByRole("link", { name: "Artefacts" }).click();
    const download = page.waitForEvent("download");
    await page.getByRole("link", { name: "agent.log" }).click();
    assert.equal((await download).suggestedFilename(), "agent.log");
    assert.deepEqual(complaints, []);
  });

  test("a trial's page follows it: events, cost and buttons", async () => {
    const { running } = fixture.ids;
    await page.goto(`${fixture.url}/trials/${running}`);
    await page.getByRole("button", { name: "Stop" }).waitFor();
    await page.locator(".live.live").waitFor();
    fixture.change(
      running,
      { budget: balance(500_000_000n, 199_000_000n) },
      { type: "agent.message", data: { text: "half way" } },
    );
    await page.locator(".ev", { hasText: "half way" }).waitFor();
    fixture.change(
      running,
      {},
      {
        type: "call.settled",
        data: { model: "m", side: "normal", input_tokens: 1, output_tokens: 2, cost_nanos: "1" },
      },
    );
    await page.locator(".allowance", { hasText: "0.19" }).waitFor();

    await page.getByRole("button", { name: "Stop" }).click();
    await page.getByRole("button", { name: "Stop the trial" }).click();
    await page.locator(".outcome", { hasText: "cancelled" }).waitFor();
    await page.getByRole("button", { name: "Stop" }).waitFor({ state: "detached" });
    assert.deepEqual(fixture.stopped, [running]);
    assert.deepEqual(complaints, []);
  });

  test("the terminal is replayed, and live while it runs; the player comes only then", async () => {
    const loaded: string[] = [];
    page.on("request", (request) => loaded.push(new URL(request.url()).pathname));
    await page.goto(`${fixture.url}/trials/${fixture.ids.passed}`);
    await page.locator(".ev").first().waitFor();
    assert.ok(!loaded.some((path) => path.includes("asciinema")));
    await page.getByRole("link", { name: "Terminal" }).click();
    await page.getByText("Fixed parseWeek.").waitFor();
    await page.getByText("recording", { exact: true }).waitFor();
    await page.locator(".ap-overlay-start").click();
    await page.getByText("Fixed parseWeek.").waitFor({ state: "detached" });
    await page.getByText("Fixed parseWeek.").waitFor();

    await page.goto(`${fixture.url}/trials/${fixture.ids.running}/terminal`);
    await page.getByText("read src/date.js").waitFor();
    await fixture.record(JSON.stringify([9.5, "o", "written a moment ago\r\n"]));
    await page.getByText("written a moment ago").waitFor();
    await page.getByText("live", { exact: true }).waitFor();
    assert.equal(await page.evaluate("globalThis.wasRun"), undefined);
    assert.deepEqual(complaints, []);
  });

  test("what an agent wrote is text wherever it stands", async () => {
    const { hostile } = fixture.ids;
    await page.getByText(`x${MARKUP}`).first().waitFor();
    for (const tab of ["", "/terminal", "/diff", "/calls", "/engines", "/artefacts"]) {
      await page.goto(`${fixture.url}/trials/${hostile}${tab}`);
      await page.locator("h1", { hasText: `x${MARKUP}` }).waitFor();
      if (tab === "") {
        await page.locator(".prose", { hasText: MARKUP }).first().waitFor();
        for (const fold of await page.locator("summary").all()) await fold.click();
        await page.getByText("dangerouslySetInnerHTML").first().waitFor();
      }
      if (tab === "/diff") await page.locator("tr.removed", { hasText: MARKUP }).waitFor();
      if (tab === "/terminal")
        await page.locator(".terminal", { hasText: "globalThis.wasRun" }).waitFor();
      assert.equal(await page.locator("#app img, #app script, #app iframe").count(), 0);
      assert.equal(await page.evaluate("globalThis.wasRun"), undefined);
    }
    assert.deepEqual(complaints, []);
  });

  test("a top-up is sent once, however often it is pressed", async () => {
    await page.getByRole("link", { name: "Budgets" }).click();
    await page.getByRole("link", { name: "tidy-cli" }).click();
    const button = page.getByRole("button", { name: "Top up" });
    await page.getByLabel("Amount").fill("12,5");
    await button.click();
    await page.getByText("Write an amount such as 12.50").waitFor();
    await page.getByLabel("Amount").fill("12.000000001");
    await button.dblclick();
    await page.getByText("Added 12.00 CAD").waitFor();
    assert.equal(fixture.topUps.length, 1);
    const [sent] = fixture.topUps;
    assert.deepEqual(sent?.topUp, { amount_nanos: "12000000001", currency: "CAD" });
    await page.locator(".balance", { hasText: "37.00" }).first().waitFor();

    await page.getByLabel("Amount").fill("1");
    await button.click();
    await page.getByText("Added 1.00 CAD").waitFor();
    assert.notEqual(fixture.topUps[1]?.key, sent?.key);
    assert.deepEqual(complaints, []);
  });

  test("a top-up whose answer was lost is repeated with its key", async () => {
    await page.goto(`${fixture.url}/budgets/tidy-cli`);
    await page.getByLabel("Amount").fill("2");
    const keys: (string | undefined)[] = [];
    await page.route("**/topup", async (route) => {
      keys.push(route.request().headers()["idempotency-key"]);
      await (keys.length === 1 ? route.abort() : route.continue());
    });
    await page.getByRole("button", { name: "Top up" }).click();
    await page.getByText("autocode does not answer").waitFor();
    await page.getByRole("button", { name: "Top up" }).click();
    await page.getByText("Added 2.00 CAD").waitFor();
    assert.equal(keys.length, 2);
    assert.equal(keys[0], keys[1]);
    assert.match(keys[0] ?? "", /^[0-9a-f]{32}$/);
  });

  test("the statement pages back to its first line; doctor tells the next step", async () => {
    await page.goto(`${fixture.url}/budgets/tidy-cli`);
    await page.getByRole("link", { name: "Statement" }).click();
    await page.getByText("50 shown").waitFor();
    const lines = page.locator(".statement tbody tr");
    await page.getByRole("button", { name: "Show older lines" }).click();
    await lines.filter({ hasText: "25.0000" }).getByText("agreed with the team").waitFor();
    assert.equal(await lines.count(), 75);
    // A reversal names what it takes back, and leads there.
    const reversal = lines.filter({ hasText: "takes back" });
    assert.match((await reversal.textContent()) ?? "", /billed this call twice.*moved.*0\.00602/s);
    await reversal.getByRole("link").first().click();
    assert.equal(await page.locator("tr:target").count(), 1);
    const trial = lines.first().getByRole("link", { name: /^trial …/ });
    assert.equal(await trial.getAttribute("href"), `/trials/${fixture.ids.passed}`);
    const href = await page.getByRole("link", { name: "Export CSV" }).getAttribute("href");
    assert.equal(href, "/api/v1/budgets/tidy-cli/export?format=csv");
    await page.getByRole("link", { name: "Doctor" }).click();
    await page.getByText("autocode agent install claude-code").waitFor();
    assert.match(
      (await page.locator(".findings li").first().textContent()) ?? "",
      /missing.*models/s,
    );
    assert.deepEqual(complaints, []);
  });

  test("a budget's levels: bars, marks, tokens, how long they last, what comes next", async () => {
    await page.goto(`${fixture.url}/budgets/tidy-cli`);
    const level = (name: string) => page.getByRole("group", { name, exact: true });
    await level("Project").getByText("21.22").waitFor();
    assert.match((await level("Organisation").textContent()) ?? "", /no limit of its own/);
    const day = level("Today");
    await day.getByRole("img", { name: "Today: 85 % spent, 1 % reserved" }).waitFor();
    assert.deepEqual(await day.getByRole("listitem").allTextContents(), [
      "50 %, passed",
      "80 %, passed",
      "90 %, not reached",
      "95 %, not reached",
      "100 %, not reached",
    ]);
    assert.match(
      (await day.textContent()) ?? "",
      /0\.42 CAD in the last hour.*used up in 1 h 3\d m/s,
    );
    assert.match((await level("Project, tokens").textContent()) ?? "", /57,600 tokens/);
    await page.getByText("Next top-up: 10.00 CAD on 2026-12-01 (every two weeks)").waitFor();
    const lately = page.getByRole("region", { name: "Lately" });
    await lately.getByText("80 % of the day is spent: 4.26 CAD of 5.00 CAD").waitFor();
    await lately.getByText("What was left of the day lapsed: 1.90 CAD").waitFor();
    assert.deepEqual(complaints, []);
  });

  test("a paused trial says what it asks, and is answered once", async () => {
    const { paused } = fixture.ids;
    await page.goto(`${fixture.url}/trials/${paused}`);
    const asked = page.getByRole("region", { name: "It waits for your answer" });
    const facts = asked.getByRole("listitem");
    await facts.first().waitFor();
    assert.deepEqual(await facts.allTextContents(), [
      "The next call may cost 0.031 CAD; 0.012 CAD is left of the trial’s budget",
      "To finish, 0.042 CAD to 0.16 CAD more, in 50 % of cases: from 14 of its own calls",
      "Kept: 2 files changed (+34 −5), plan done, its conversation goes on",
    ]);
    const amount = asked.getByLabel("Add");
    assert.equal(await amount.inputValue(), "0.15");
    await amount.fill("nothing");
    await asked.getByRole("button", { name: "Top up and resume" }).click();
    await asked.getByText("Write an amount above 0").waitFor();
    await amount.fill("0.2");
    await asked.getByRole("button", { name: "Top up and resume" }).dblclick();
    await asked.waitFor({ state: "detached" });
    const content_sha256 = "5f".repeat(32);
    assert.deepEqual(fixture.answers, [{ content_sha256, amount_nanos: "200000000" }]);
    assert.deepEqual(complaints, []);
  });

  test("what a paused trial asks is rejected with a reason", async () => {
    await page.goto(`${fixture.url}/trials/${fixture.ids.paused}`);
    await page.getByRole("button", { name: "Reject…" }).click();
    await page.getByLabel("Reason").fill("not worth it");
    await page.getByRole("button", { name: "Reject", exact: true }).click();
    await page.locator(".outcome", { hasText: "cancelled" }).waitFor();
    const content_sha256 = "5f".repeat(32);
    assert.deepEqual(fixture.answers, [{ content_sha256, reason: "not worth it" }]);
  });

  test("a trial's budget is a page too, from its cost", async () => {
    await page.goto(`${fixture.url}/trials/${fixture.ids.passed}`);
    await page.getByRole("link", { name: "statement" }).click();
    await page.getByText("50 shown").waitFor();
    await page.getByRole("link", { name: "Overview" }).click();
    const own = page.getByRole("group", { name: "Trial", exact: true });
    await own.getByRole("img", { name: /^Trial: / }).waitFor();
    assert.equal(await page.getByRole("link", { name: "Results" }).count(), 0);
    await page.getByRole("link", { name: "To the trial" }).click();
    await page.locator("h1", { hasText: "fix-date-parser" }).waitFor();
    assert.deepEqual(complaints, []);
  });

  test("results: what a success costs, by what one asks, and profit and loss", async () => {
    await page.goto(`${fixture.url}/budgets/tidy-cli`);
    await page.getByRole("link", { name: "Results" }).click();
    const costs = page.getByRole("region", { name: "Cost of a success" });
    await costs
      .getByRole("row", { name: /claude-code.*2 \/ 3.*921,310.*1\.687.*0\.843/ })
      .waitFor();
    await costs.getByRole("row", { name: /^aider.*0 \/ 3.*–/ }).waitFor();
    await costs.getByLabel("by").selectOption("phase");
    await costs.getByRole("row", { name: /^plan/ }).waitFor();
    const profit = page.getByRole("region", { name: "Profit and loss" });
    await profit.getByRole("row", { name: /claude-code.*-0\.687/ }).waitFor();
    assert.match((await profit.locator("dl").textContent()) ?? "", /5\.00.*3\.21.*1\.78/s);
    assert.deepEqual(complaints, []);
  });

  test("the proof: limits kept, the journal verified, or the change named", async () => {
    await page.goto(`${fixture.url}/budgets/tidy-cli/proof`);
    await page.getByText("4 budgets, none of them ever exceeded").waitFor();
    await page.getByRole("row", { name: /tidy-cli, tokens.*1,942,400 tokens.*yes/ }).waitFor();
    await page.getByText("SHA256:47DEQpj8").waitFor();
    await page.getByText("318 of 321 transfers").waitFor();
    await page.getByRole("button", { name: "Verify now" }).click();
    await page.getByText("1,204 sealed transfers and 12 signatures agree").waitFor();
    fixture.journal.isIntact = false;
    await page.getByRole("button", { name: "Verify now" }).click();
    await page.getByRole("alert").getByText("its amount is not the one that was sealed").waitFor();
    const download = page.getByRole("link", { name: "Ledger export" });
    assert.equal(await download.getAttribute("href"), "/api/v1/ledger/export");
    assert.deepEqual(complaints, []);
  });

  test("a call says its price, and a trial what it would have cost at others", async () => {
    await page.goto(`${fixture.url}/trials/${fixture.ids.passed}/calls`);
    await page.locator(".calls tbody tr").first().waitFor();
    assert.equal(await page.getByText("qwen3-coder-next@2026-11-01").count(), 4);
    await page.getByText("What would it have cost").click();
    await page.getByLabel("Pair").selectOption("openai");
    await page.getByRole("button", { name: "Compute" }).click();
    await page.getByText("qwen3-coder-next@2026-11-01 → o3@2026-11-01").first().waitFor();
    const figures = page.locator(".reprice dl");
    assert.match((await figures.textContent()) ?? "", /0\.0393.*0\.0273.*-0\.012/s);
    await page.getByText("1 by our own count of tokens").waitFor();
    assert.deepEqual(complaints, []);
  });

  test("a refusal is shown with its reason and the page goes on", async () => {
    await page.goto(`${fixture.url}/trials/${fixture.ids.paused}`);
    await page.getByRole("button", { name: "Resume", exact: true }).click();
    await page.getByRole("alert").getByText("Top up").waitFor();
    await page.goto(`${fixture.url}/trials/trial_01jzzzzzzzzzzzzzzzzzzzzzzz`);
    await page.getByText("There is no such trial").waitFor();
    await page.goto(`${fixture.url}/budgets/nothing`);
    await page.getByText("There is no such budget").waitFor();
    await page.goBack();
    await page.getByText("There is no such trial").waitFor();
    await context.clearCookies();
    await page.getByRole("link", { name: "Show all trials" }).click();
    await page.getByText("autocode login").waitFor();
  });

  test("a phone shows every page without scrolling sideways", async () => {
    await page.setViewportSize(PHONE);
    const { passed, hostile, running, paused } = fixture.ids;
    const trials = ["", "/terminal", "/diff", "/calls", "/artefacts"].map(
      (tab) => `/trials/${passed}${tab}`,
    );
    const paths = [
      "/",
      ...trials,
      `/trials/${hostile}`,
      `/trials/${running}`,
      `/trials/${paused}`,
      `/budgets/${passed}`,
      "/budgets",
      ...["", "/statement", "/results", "/proof"].map((tab) => `/budgets/tidy-cli${tab}`),
      "/doctor",
    ];
    for (const path of paths) {
      await page.goto(`${fixture.url}${path}`);
      await page.locator("main h1").waitFor();
      await page.locator(".skeleton").first().waitFor({ state: "detached" });
      const excess = await page.evaluate("document.documentElement.scrollWidth - innerWidth");
      assert.ok(Number(excess) <= 0, `${path} is ${excess} px too wide`);
    }
    assert.deepEqual(complaints, []);
  });

  test("the keyboard reaches the list, a trial and back", async () => {
    await page.locator("tr[data-trial]").first().waitFor();
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate("document.activeElement.textContent"), "Skip to content");
    await page.locator(`[data-trial=${fixture.ids.passed}] a`).focus();
    await page.keyboard.press("Enter");
    await page.locator(".tabs").waitFor();
    await page.goBack();
    await page.locator("tr[data-trial]").first().waitFor();
    assert.equal(new URL(page.url()).pathname, "/");
  });

  test("the first load is light", async (t) => {
    const fresh = await context.newPage();
    const bodies: Promise<Buffer>[] = [];
    fresh.on("response", (response) => {
      if (new URL(response.url()).pathname.startsWith("/api/")) return;
      bodies.push(response.body());
    });
    await fresh.goto(fixture.url);
    await fresh.locator("tr[data-trial]").first().waitFor();
    const byteCount = (await Promise.all(bodies)).reduce((sum, body) => sum + body.length, 0);
    assert.ok(byteCount > 20_000, `counted ${byteCount}`);
    assert.ok(byteCount <= FIRST_LOAD_BYTES, `the first load is ${byteCount} bytes`);
    t.diagnostic(`the first load is ${byteCount} bytes`);
  });
});
