/** Goal: a worker that is set up wrongly says all that is wrong, and keeps its secret. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { readConfig } from "../../worker-agent/config.ts";

const ENV = {
  PATH: "/usr/bin:relative:/repo/node_modules/.bin:/bin",
  AUTOCODE_API_URL: "http://127.0.0.1:1234/",
  AUTOCODE_ENROLMENT_TOKEN: "secret",
  AUTOCODE_ALLOCATION_DIR: "/data/allocation",
  AUTOCODE_AGENTS_DIR: "/data/agents",
  AUTOCODE_RUN_AS: "1000:1001",
  npm_config_registry: "http://127.0.0.1:4873",
};
const ROOT = { execPath: "/opt/node/bin/node", isRoot: true };

test("a whole configuration; the token leaves the environment", () => {
  const env: Record<string, string | undefined> = { ...ENV };
  assert.deepEqual(readConfig(env, ROOT), {
    apiUrl: "http://127.0.0.1:1234",
    enrolmentToken: "secret",
    allocationDir: "/data/allocation",
    agentsDir: "/data/agents",
    runAs: { uid: 1000, gid: 1001 },
    orphanMs: 120_000,
    path: "/opt/node/bin:/usr/bin:/bin",
    installEnv: { PATH: ENV.PATH, npm_config_registry: ENV.npm_config_registry },
  });
  assert.equal("AUTOCODE_ENROLMENT_TOKEN" in env, false);
});

test("only root becomes another user", () => {
  assert.equal(readConfig({ ...ENV }, { ...ROOT, isRoot: false }).runAs, null);
});

test("every fault is named at once", () => {
  const bad = { AUTOCODE_API_URL: "ftp://x", AUTOCODE_RUN_AS: "0:0", AUTOCODE_ORPHAN_MS: "1.5" };
  assert.throws(() => readConfig(bad, ROOT), {
    message: [
      "AUTOCODE_ENROLMENT_TOKEN is not set",
      "AUTOCODE_ALLOCATION_DIR is not set",
      "AUTOCODE_AGENTS_DIR is not set",
      "AUTOCODE_API_URL must be an http or https address",
      "AUTOCODE_ORPHAN_MS must be a whole number of milliseconds",
      "AUTOCODE_RUN_AS must be uid:gid, neither of them 0",
    ].join("; "),
  });
});
