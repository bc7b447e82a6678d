/**
 * Goal: a person opens the printed link, watches a trial to its verdict without a reload, and finds
 * what it did, what it changed and what it cost, on a desk and on a phone.
 *
 * Method: Chromium on the real installation, with a real agent. AUTOCODE_SCREENSHOTS names a folder
 * to keep pictures in.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { env } from "node:process";
import test from "node:test";
import type { BrowserContext, Page } from "playwright-core";
import type { Trial } from "../../orchestrator/contract/trials.ts";
import { complaintsOf, startBrowser, whyNoBrowser } from "../support/browser.ts";
import { eventually } from "../support/eventually.ts";
import { makeProject, startInstallation, whyNoAgents } from "../support/installation.ts";

const WAIT_MS = 60_000;
const LINK = /Open (http:\/\/127\.0\.0\.1:\d+\/login\?secret=\S+)/;
const PHONE = { width: 390, height: 844 };
const DESK = { width: 1360, height: 850 };
const skip = whyNoBrowser() || (await whyNoAgents("qwen-code", "aider"));

test("a person watches a trial finish", { skip }, async (t) => {
  await using installation = await startInstallation();
  await makeProject(installation, "example");
  const browser = await startBrowser();
  try {
    const context = await browser.newContext({ viewport: DESK, colorScheme: "light" });
    context.setDefaultTimeout(WAIT_MS);
    const page = await context.newPage();
    const complaints = complaintsOf(page);
    const runTrial = async (agent: string, task: string) => {
      const what = ["--task", task, "-a", agent, "-m", "scripted", "--detach"];
      return (await installation.json<Trial>("trial", "run", ...what)).id;
    };

    await t.test("the printed link logs in, once", async () => {
      await eventually(() => LINK.test(installation.output()), Boolean, WAIT_MS);
      const link = LINK.exec(installation.output())?.[1] ?? "";
      await page.goto(link);
      await page.getByRole("heading", { level: 1 }).waitFor();
      assert.equal(new URL(page.url()).pathname, "/");
      const again = await fetch(link, { redirect: "manual" });
      assert.notEqual(again.status, 303, "the link worked twice");
    });

    const id = await runTrial("qwen-code", "fix-median");
    await t.test("its row goes to passed without a reload", async () => {
      await page.evaluate("window.isSamePage = true");
      const row = page.locator(`[data-trial=${id}]`);
      await row.getByText(/running/).waitFor();
      await row.locator(".verdict.passed").waitFor();
      assert.equal(await page.evaluate("window.isSamePage"), true);
    });

    await t.test("the trial's page tells what it did, changed and cost", async () => {
      const more = [runTrial("qwen-code", "parse-duration"), runTrial("aider", "csv-quotes")];
      for (const other of await Promise.all(more)) {
        await installation.untilState(other, ["succeeded", "failed"]);
      }
      await page.locator(".verdict.failed").first().waitFor();
      await page.locator(".verdict.passed").nth(1).waitFor();
      await picture(page, "trials");
      await page.locator(`[data-trial=${id}] a`).first().click();
      await page.locator(".ev", { hasText: "Verdict: passed" }).waitFor();
      await picture(page, "trial");

      await page.getByRole("link", { name: /^Calls/ }).click();
      await page.locator("tfoot").waitFor();
      const calls = await installation.calls(id);
      assert.equal(await page.locator("tbody tr").count(), calls.length);
      await picture(page, "calls");

      await page.getByRole("link", { name: "Diff" }).click();
      await page.locator(".diff-file", { hasText: "statistics.js" }).first().waitFor();
      assert.equal(await page.locator(".diff-file tr.added").count(), 4);
      await picture(page, "diff");

      await page.getByRole("link", { name: "Terminal" }).click();
      await page.locator(".ap-overlay-start").waitFor();
      await page.locator(".ap-term, .ap-terminal").getByText(/\S/).first().waitFor();
      await picture(page, "terminal");
    });

    await t.test("the budget page adds up", async () => {
      await page.goto(`${installation.url()}/budgets`);
      await page.getByRole("link", { name: "example" }).first().click();
      await page.getByText("25.00").first().waitFor();
      await picture(page, "budget");
    });

    await t.test("on a phone nothing is wider than the screen", async () => {
      await onPhone(context, async (phone) => {
        for (const [name, path] of [
          ["trials", "/"],
          ["trial", `/trials/${id}`],
          ["diff", `/trials/${id}/diff`],
          ["calls", `/trials/${id}/calls`],
          ["terminal", `/trials/${id}/terminal`],
          ["budgets", "/budgets"],
        ] as const) {
          await phone.goto(`${installation.url()}${path}`);
          await phone.getByRole("heading", { level: 1 }).waitFor({ timeout: 30_000 });
          await phone.waitForLoadState("networkidle").catch(() => {});
          const width = await phone.evaluate("document.documentElement.scrollWidth");
          await picture(phone, `${name}-phone`);
          assert.ok(Number(width) <= PHONE.width, `${path} is ${width} wide`);
        }
      });
    });

    await t.test("no page complained", () => assert.deepEqual(complaints, []));
  } finally {
    await browser.close();
  }
});

async function onPhone(context: BrowserContext, look: (page: Page) => Promise<void>) {
  const phone = await context.newPage();
  // A stream of events is open for as long as the page: the network is never idle for it.
  phone.setDefaultTimeout(5_000);
  await phone.setViewportSize(PHONE);
  await look(phone);
  await phone.close();
}

async function picture(page: Page, name: string): Promise<void> {
  const folder = env["AUTOCODE_SCREENSHOTS"];
  if (folder !== undefined) await page.screenshot({ path: join(folder, `${name}.png`) });
}
