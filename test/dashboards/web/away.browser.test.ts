/**
 * Goal: what is away is told, and the page goes on by itself once it is back.
 *
 * Method: Chromium against the real API over a fixture, with a part of either taken away.
 */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { complaintsOf, startBrowser, whyNoBrowser } from "../../support/browser.ts";
import { startUiFixture, type UiFixture } from "../../support/ui-fixture.ts";

describe("what is away, in the web UI", { skip: whyNoBrowser(), timeout: 200_000 }, () => {
  let fixture: UiFixture;
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;

  before(async () => {
    browser = await startBrowser();
  });
  after(() => browser.close());
  beforeEach(async () => {
    fixture = await startUiFixture();
    context = await browser.newContext();
    page = await context.newPage();
    page.setDefaultTimeout(30_000);
    await page.goto(fixture.loginUrl);
  });
  afterEach(async () => {
    await context.close();
    await fixture[Symbol.asyncDispose]();
  });

  test("secrets that cannot be opened are told on every page, until they can", async () => {
    const complaints = complaintsOf(page);
    const detail = "Vault at http://vault is sealed: unseal it, and what waits goes on by itself";
    Object.assign(fixture.secrets, { state: "sealed", detail });
    for (const path of ["/", "/budgets", `/trials/${fixture.ids.running}`]) {
      await page.goto(fixture.url + path);
      const banner = page.getByRole("alert").filter({ hasText: "The secrets are sealed" });
      await banner.getByText("unseal it, and what waits goes on by itself").waitFor();
    }
    Object.assign(fixture.secrets, { state: "ready", detail: "Vault" });
    await page.getByText("The secrets are sealed").waitFor({ state: "detached" });
    assert.deepEqual(complaints, []);
  });

  test("a part of a page that did not come is asked for once the server is back", async () => {
    let drop = () => {};
    const isDropped = new Promise<void>((resolve) => {
      drop = resolve;
    });
    await page.route("**/events", async (route) => {
      await isDropped;
      await route.continue();
    });
    await page.route("**/trial-page.js", (route) => route.abort("internetdisconnected"), {
      times: 1,
    });
    await page.goto(`${fixture.url}/trials/${fixture.ids.passed}`);
    await page.getByRole("alert").waitFor();
    drop();
    await page.locator("h1", { hasText: "fix-date-parser" }).waitFor();
  });
});
