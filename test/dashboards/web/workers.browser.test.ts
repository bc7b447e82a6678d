/**
 * Goal: the workers' page shows each host, its slots and its availability, drains one, and hands
 * out the command that joins another; on a phone too.
 *
 * Method: Chromium against the real API over a fixture.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Browser, Locator } from "playwright-core";
import { complaintsOf, startBrowser, whyNoBrowser } from "../../support/browser.ts";
import { startUiFixture, type UiFixture } from "../../support/ui-fixture.ts";

const PHONE = { width: 390, height: 844 };

describe("the workers' page", { skip: whyNoBrowser(), timeout: 200_000 }, () => {
  let fixture: UiFixture;
  let browser: Browser;

  before(async () => {
    browser = await startBrowser();
    fixture = await startUiFixture();
  });
  after(async () => {
    await browser.close();
    await fixture[Symbol.asyncDispose]();
  });

  test("shows the hosts, drains one, and tells how another joins", async () => {
    const page = await browser.newPage();
    page.setDefaultTimeout(30_000);
    const complaints = complaintsOf(page);
    await page.goto(fixture.loginUrl);
    await page.getByRole("link", { name: "Workers" }).click();
    await page.getByText("build-1").waitFor();
    const figures = await text(page.locator(".worker-figures"));
    assert.match(figures, /2 of 4 ready/);
    assert.match(figures, /99\.95 % meets 99\.00 %/);
    assert.equal(await page.locator(".bar-met").count(), 1);
    const down = await text(page.locator(".worker", { hasText: "vm-7" }));
    assert.match(down, /down\s*default\s*0\/4\s*97\.31 % 2 out/);

    const one = page.locator(".worker", { hasText: "build-1" });
    await one.locator("summary").click();
    await one.getByText("64 CPUs (x64)").waitFor();
    await one.getByRole("button", { name: "Drain" }).click();
    await one.getByText("draining", { exact: true }).waitFor();
    await one.getByRole("button", { name: "Give it work again" }).click();
    await one.getByText("ready", { exact: true }).waitFor();

    await page.getByLabel("Pool").fill("gpu");
    await page.getByRole("button", { name: "Make a token" }).click();
    const command = await text(page.locator(".join .command"));
    assert.match(command, /^AUTOCODE_API_URL=http:\S+ AUTOCODE_JOIN_TOKEN=autocode_join_\S+ node /);
    assert.deepEqual(complaints, []);
    await page.close();
  });

  test("fits a phone", async () => {
    const page = await browser.newPage({ viewport: PHONE });
    await page.goto(fixture.loginUrl);
    await page.goto(`${new URL(fixture.loginUrl).origin}/workers`);
    await page.getByText("build-1").waitFor();
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= PHONE.width, `${width} px`);
    await page.close();
  });
});

/** As it reads, whatever space its markup has. */
async function text(locator: Locator): Promise<string> {
  return ((await locator.textContent()) ?? "").trim().replaceAll(/\s+/g, " ");
}
