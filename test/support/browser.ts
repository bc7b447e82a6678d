/** Chromium for the tests of the UI: Debian's, driven through playwright-core. */
import { existsSync } from "node:fs";
import { env } from "node:process";
import { type Browser, chromium, type Page } from "playwright-core";

const CHROMIUM = "/usr/bin/chromium";
/** Trials that run as root beside it make network links: Chromium then drops what it reads. */
const CHANGED = "net::ERR_NETWORK_CHANGED";

/** Why the tests of the UI cannot run here, false when they can: for `test`'s `skip`. */
export function whyNoBrowser(): string | false {
  if (existsSync(CHROMIUM) || env["AUTOCODE_REQUIRE_ENGINES"] === "all") return false;
  return `there is no ${CHROMIUM}`;
}

/** A browser with a profile of its own, which calls nobody. */
export function startBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath: CHROMIUM,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** What a page complains of, collected from now on: errors of scripts and of the policy. */
export function complaintsOf(page: Page): string[] {
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => {
    const isFault = message.type() === "error" || message.type() === "warning";
    if (isFault && !message.text().includes(CHANGED)) complaints.push(message.text());
  });
  page.on("requestfailed", (request) => {
    // A page that is left drops what it reads.
    const fault = request.failure()?.errorText;
    const isOurs = fault !== "net::ERR_ABORTED" && fault !== CHANGED;
    if (isOurs) complaints.push(`${request.url()}: ${fault}`);
  });
  return complaints;
}
