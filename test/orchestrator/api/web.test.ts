/** Goal: the web UI's files are served, and nothing beside them (S16). */
import assert from "node:assert/strict";
import test from "node:test";
import { CONTENT_SECURITY_POLICY, VENDOR_FILES } from "../../../dashboards/web/vendor.ts";
import { createApi } from "../../../orchestrator/api/server.ts";
import { openApiServices } from "../../support/api-services.ts";
import { WEB } from "../../support/api-web.ts";

test("the web UI", async (t) => {
  await using fixture = await openApiServices();
  const api = createApi(fixture.services, { version: "0.0.0", web: WEB });
  const authorization = `Bearer ${await fixture.access.issueCliToken()}`;

  await t.test("pages and vendor files are served under the UI's policy", async () => {
    for (const url of ["/", "/trials/trial_1", "/projects/demo"]) {
      const page = await api.inject({ url, headers: { authorization } });
      assert.equal(page.statusCode, 200, url);
      assert.equal(page.headers["content-type"], "text/html; charset=utf-8");
      assert.equal(page.headers["content-security-policy"], CONTENT_SECURITY_POLICY);
    }
    for (const { url } of VENDOR_FILES) {
      const file = await api.inject(url);
      assert.equal(file.statusCode, 200, url);
      assert.match(String(file.headers["content-type"]), /javascript|css/);
    }
    const asset = await api.inject("/favicon.svg");
    assert.equal(asset.headers["content-type"], "image/svg+xml");
  });

  await t.test("no other file is, whoever asks and however it is written", async () => {
    const paths = [
      "/vendor/preact/dist/preact.js",
      "/vendor/../package.json",
      "/vendor/%2e%2e/package.json",
      "/..%2f..%2fpackage.json",
      "/app/..%2f..%2f..%2forchestrator%2fmain.js",
      "/%2e%2e/%2e%2e/package.json.js",
      "/app/%00.js",
      "/.git/config.js",
      "/absent.js",
      "/vendor.ts",
      "/app\\..\\..\\package.js",
    ];
    for (const url of paths) {
      const response = await api.inject({ url, headers: { authorization } });
      const isPage = String(response.headers["content-type"]).startsWith("text/html");
      assert.ok(isPage || response.statusCode >= 400, `${url}: ${response.statusCode}`);
      assert.doesNotMatch(
        response.body,
        /"dependencies"|VENDOR_FILES|repositoryformatversion/,
        url,
      );
    }
  });
});
