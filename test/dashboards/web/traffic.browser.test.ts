/**
 * Goal: people see what passed and why, as it passes; what was refused can be asked for; whatever a
 * worker or a server wrote is text.
 *
 * Method: Chromium against the real API over a fixture with one of each kind of flow; every page is
 * watched for complaints, and markup from a flow would set `wasRun`.
 */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import type { Browser, BrowserContext, Locator, Page } from "playwright-core";
import { Value } from "typebox/value";
import { FlowRecord } from "../../../orchestrator/contract/flows.ts";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import { complaintsOf, startBrowser, whyNoBrowser } from "../../support/browser.ts";
import { eventually } from "../../support/eventually.ts";
import { refusedFlow } from "../../support/flow-records.ts";
import { startUiFixture, type UiFixture } from "../../support/ui-fixture.ts";

const PHONE = { width: 390, height: 844 };

describe("traffic in the web UI", { skip: whyNoBrowser(), timeout: 300_000 }, () => {
  let fixture: UiFixture;
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;
  let complaints: string[];

  before(async () => {
    browser = await startBrowser();
    fixture = await startUiFixture();
  });
  after(async () => {
    await browser.close();
    await fixture[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    context = await browser.newContext();
    page = await context.newPage();
    page.setDefaultTimeout(30_000);
    complaints = complaintsOf(page);
    await page.goto(fixture.loginUrl);
  });
  afterEach(async () => {
    await context.close();
  });

  test("the fixture's flows are the contract's", () => {
    for (const flow of fixture.flows.records) assert.deepEqual(Value.Errors(FlowRecord, flow), []);
  });

  test("the list shows flows, and those that come, without moving what is there", async () => {
    await page.getByRole("link", { name: "Traffic" }).click();
    await row("telemetry.example").waitFor();
    assert.match(
      await text(row("telemetry.example")),
      /refused.*POST.*telemetry\.example\/collect/,
    );
    assert.match(await text(row("gateway").first()), /200.*POST.*\/v1\/messages.*CAD/);
    assert.match(await text(row("198.51.100.9")), /refused.*any.*198\.51\.100\.9:53.*14 dropped/);
    await page.getByText("As it is recorded").waitFor();
    await page.getByText("3 missing").waitFor();
    await page.evaluate("globalThis.isSamePage = true");
    const ids = createIds(systemClock, seededRandom(77));
    const { server } = refusedFlow(ids, systemClock.now());
    const fresh = refusedFlow(ids, systemClock.now(), {
      server: { ...server, host: "new.example" },
    });
    await fixture.flows.services.traffic.append([fresh]);
    await row("new.example").waitFor();
    assert.equal(await page.evaluate("globalThis.isSamePage"), true);
    const bars = page.locator(".strip-bars");
    assert.match((await bars.getAttribute("aria-label")) ?? "", /\d+ flows shown, \d+ refused/);
    assert.deepEqual(noisy(), []);
  });

  test("filters narrow the list, stand in the address, and go into the export", async () => {
    await page.goto(`${fixture.url}/traffic`);
    await page.getByLabel("Decision").selectOption("inject");
    await page.waitForURL("**/traffic?action=inject");
    await eventually(
      () => page.locator("tr[data-flow]").count(),
      (count) => count === 1,
    );
    await page.getByRole("link", { name: "Clear" }).click();
    await page.getByLabel("Host").fill("*.example.org");
    await page.waitForURL("**/traffic?host=*");
    await page.getByLabel("Text").fill("left-pad");
    await eventually(
      () => page.locator("tr[data-flow]").count(),
      (count) => count === 1,
    );
    const href = (await page.getByRole("link", { name: "HAR" }).getAttribute("href")) ?? "";
    const har = await (await context.request.get(new URL(href, fixture.url).href)).json();
    assert.equal(har.log.entries.length, 1);
    await page.getByLabel("Status").fill("9");
    await page.getByRole("alert").first().waitFor();
    await page.getByLabel("Status").fill("418");
    await page.getByText("No flow fits this filter").waitFor();
  });

  test("a flow: decision, rule, times, credentials, bodies laid out", async () => {
    await open((flow) => flow.credentials[0] === "forge/github/token");
    const head = await text(page.locator(".flow-head"));
    assert.match(head, /inject, rule rules\[2\].*puts forge\/github\/token in/);
    assert.match(head, /Credentials usedforge\/github\/tokenRedacted2 pieces/);
    assert.match(head, /dns 3 msconnect 11 mstls 18 mswait 37 mstransfer 15 ms/);
    assert.match(head, /TLSv1\.3 for api\.example\.org/);
    await page.getByRole("link", { name: "Request" }).press("Enter");
    await page.getByText("bug,parser").waitFor();
    await page.getByText("Bearer {{secret:forge/github/token}}").waitFor();

    await open((flow) => flow.call_id !== null);
    await page.locator(".sse li").nth(2).waitFor();
    await page.getByText("The parser drops the zone").waitFor();
    assert.match(await text(page.locator(".facts")), /Cost0\.\d+ CAD.*Callcall_/);
    await page.getByRole("button", { name: "As recorded" }).click();
    await page.getByText("event: message_start").waitFor();

    await open((flow) => flow.request?.path === "/huge.json");
    await page.getByRole("button", { name: "3,900 more" }).click();
    await page.getByText("row 1099").waitFor();
    await open((flow) => flow.request?.path === "/cut.json");
    await page.getByText("recorded in part").waitFor();
    await open((flow) => flow.request?.path === "/logo.png");
    await page.getByText("000000  89 50 4e 47").waitFor();
    await open((flow) => flow.request?.path === "/old");
    await page.getByText("Not kept: their retention is over").waitFor();
    await open((flow) => flow.messages !== null && flow.server.host === "live.example.org");
    await page.getByRole("link", { name: "Messages (3)" }).click();
    await page.getByText('"subscribe"').waitFor();
    await open((flow) => flow.kind === "packet");
    await page.getByText("14 packets, all dropped").waitFor();
    await page.goto(`${fixture.url}/traffic/flow_01kah27zs8e4rsk0ncyqjpys5f`);
    await page.getByText("There is no such flow").waitFor();
    assert.deepEqual(noisy(), []);
  });

  test("a trial's traffic: what was refused, asked for once; costs; totals", async () => {
    await page.goto(`${fixture.url}/trials/${fixture.ids.passed}/traffic`);
    const violation = page.locator(".violations li", { hasText: "telemetry.example" });
    await violation.waitFor();
    await eventually(
      () => text(page.locator(".traffic-figures")),
      (figures) => /Refused3.*Cost of its calls0\.0423/.test(figures),
    );
    await violation.getByRole("button", { name: /Allow this/ }).click();
    const dialog = violation.locator("dialog");
    await dialog.getByText("hosts: [telemetry.example]").waitFor();
    assert.equal(fixture.flows.proposed.length, 0);
    await dialog.getByRole("button", { name: "Ask for it" }).click();
    await dialog.getByText(/autocode approval approve approval_/).waitFor();
    assert.equal(fixture.flows.proposed.length, 1);
    await dialog.getByRole("button", { name: "Add the rule" }).dblclick();
    await dialog.getByText("Add these lines to the project’s file").waitFor();
    await dialog.getByText("- action: allow").waitFor();
    const content_sha256 = "ae".repeat(32);
    assert.deepEqual(fixture.answers, [{ content_sha256 }]);
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "hidden" });

    fixture.flows.proposed.push("flow_01kah27zs8e4rsk0ncyqjpys5f");
    await page.reload();
    const card = page.locator(".rule-approval");
    await card.getByText("+    - hosts: [telemetry.example]").waitFor();
    await page.getByRole("link", { name: "Traffic", exact: true }).first().click();
    await page.getByRole("button", { name: "1 change waits…" }).click();
    await card.getByRole("button", { name: "Reject…" }).click();
    await card.getByLabel("Why not").fill("Ask the vendor first");
    await card.getByRole("button", { name: "Reject", exact: true }).click();
    await card.getByText("It is rejected: nothing changes").waitFor();
    assert.deepEqual(fixture.answers[1], { content_sha256, reason: "Ask the vendor first" });
    assert.deepEqual(noisy(), []);
  });

  test("whatever a flow holds is text (S13)", async () => {
    for (const flow of fixture.flows.records.filter(
      ({ trial_id: id }) => id === fixture.ids.hostile,
    )) {
      for (const tab of ["request", "response", "messages"]) {
        await page.goto(`${fixture.url}/traffic/${flow.id}/${tab}`);
        await page.locator(".tab-body .card").first().waitFor();
        for (const button of await page.getByRole("button", { name: "As recorded" }).all()) {
          await button.click();
        }
        assert.equal(await page.locator("main img, main script, main iframe").count(), 0);
      }
    }
    for (const path of ["/traffic", `/trials/${fixture.ids.hostile}/traffic`]) {
      await page.goto(`${fixture.url}${path}`);
      await row("onerror").first().waitFor();
      assert.equal(await page.locator("main img, main script").count(), 0);
    }
    assert.equal(await page.evaluate("globalThis.wasRun"), undefined);
    assert.deepEqual(noisy(), []);
  });

  test("fits a phone, and moves nothing while it loads", async () => {
    await page.setViewportSize(PHONE);
    await page.addInitScript(`globalThis.shift = 0;
      new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) if (!entry.hadRecentInput) shift += entry.value;
      }).observe({ type: "layout-shift", buffered: true });`);
    const { id } = found((flow) => flow.credentials[0] === "forge/github/token");
    const trial = `/trials/${fixture.ids.passed}/traffic`;
    for (const path of ["/traffic", `/traffic/${id}/request`, trial]) {
      await page.goto(`${fixture.url}${path}`);
      await page.locator(".flows, .contents").first().waitFor();
      const width = await page.evaluate("document.documentElement.scrollWidth");
      assert.ok(Number(width) <= PHONE.width, `${path}: ${width} px`);
      const shift = Number(await page.evaluate("shift"));
      assert.ok(shift < 0.1, `${path}: ${shift}`);
    }
  });

  function row(host: string): Locator {
    return page.locator("tr[data-flow]", { hasText: host });
  }

  function found(is: (flow: FlowRecord) => boolean): FlowRecord {
    const flow = fixture.flows.records.find(is);
    assert.ok(flow !== undefined);
    return flow;
  }

  async function open(is: (flow: FlowRecord) => boolean): Promise<void> {
    await page.goto(`${fixture.url}/traffic/${found(is).id}`);
    await page.locator(".flow-head").waitFor();
  }

  /** A missing flow is a 404 that the browser notes; all else is a fault. */
  function noisy(): string[] {
    return complaints.filter((complaint) => !/status of 404/.test(complaint));
  }
});

/** As it reads, whatever space its markup has. */
async function text(locator: Locator): Promise<string> {
  return ((await locator.textContent()) ?? "").trim().replaceAll(/\s+/g, " ");
}
