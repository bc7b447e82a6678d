/** Goal: a worker that is set up wrongly says all that is wrong, and keeps its secret. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { readConfig } from "../../worker-agent/config.ts";
import { readLimits } from "../../worker-agent/limits.ts";

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
    removesAllocationDir: false,
    agentsDir: "/data/agents",
    hiddenDirs: ["/data"],
    runAs: { uid: 1000, gid: 1001 },
    limits: readLimits({}, []),
    orphanMs: 120_000,
    path: "/opt/node/bin:/usr/bin:/bin",
    installEnv: { PATH: ENV.PATH, npm_config_registry: ENV.npm_config_registry },
  });
  assert.equal("AUTOCODE_ENROLMENT_TOKEN" in env, false);
});

test("only root becomes another user", () => {
  assert.equal(readConfig({ ...ENV }, { ...ROOT, isRoot: false }).runAs, null);
});

test("as Nomad starts it: the token from a file, and folders of the allocation's own", () => {
  const folder = mkdtempSync(join(tmpdir(), "autocode-config-"));
  try {
    const file = join(folder, "enrolment-token");
    writeFileSync(file, "secret\n");
    const env: Record<string, string | undefined> = {
      AUTOCODE_API_URL: "http://10.0.0.5:7700",
      AUTOCODE_ENROLMENT_TOKEN_FILE: file,
      AUTOCODE_RUN_AS: "allocation",
      NOMAD_ALLOC_ID: "5c1a1f0e-7c1e-4f5c-9d0a-6f2b6a1c0b1d",
      NOMAD_ALLOC_DIR: "/nomad/alloc/5c1a/alloc",
      NOMAD_TASK_DIR: "/nomad/alloc/5c1a/worker-agent/local",
      NOMAD_TOKEN: "not for an installer",
      VAULT_TOKEN: "nor this",
      REGISTRY_PASSWORD: "nor this",
      PIP_INDEX_URL: "http://127.0.0.1:3141",
    };
    const config = readConfig(env, ROOT);
    assert.deepEqual(config, {
      apiUrl: "http://10.0.0.5:7700",
      enrolmentToken: "secret",
      allocationDir: "/nomad/alloc/5c1a/worker-agent/local/trial",
      removesAllocationDir: true,
      agentsDir: "/nomad/alloc/5c1a/alloc/data/agents",
      hiddenDirs: ["/nomad/alloc/5c1a/worker-agent/local", "/nomad/alloc/5c1a"],
      runAs: config.runAs,
      limits: readLimits({}, []),
      orphanMs: 120_000,
      path: "/opt/node/bin:/usr/local/bin:/usr/bin:/bin",
      installEnv: { PIP_INDEX_URL: "http://127.0.0.1:3141" },
    });
    assert.equal(existsSync(file), false);
    assert.equal("AUTOCODE_ENROLMENT_TOKEN_FILE" in env, false);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("each Nomad allocation has a user of its own, the same at every look", () => {
  const user = (allocId: string) =>
    readConfig({ ...ENV, AUTOCODE_RUN_AS: "allocation", NOMAD_ALLOC_ID: allocId }, ROOT).runAs;
  const first = user("5c1a1f0e-7c1e-4f5c-9d0a-6f2b6a1c0b1d");
  assert.deepEqual(user("5c1a1f0e-7c1e-4f5c-9d0a-6f2b6a1c0b1d"), first);
  assert.ok(first !== null && first.uid === first.gid);
  assert.ok(first.uid >= 2 ** 30 && first.uid < 2 ** 31, String(first.uid));
  assert.notDeepEqual(user("00000000-7c1e-4f5c-9d0a-6f2b6a1c0b1d"), first);
});

test("a token file that is gone, or holds something else, is a fault that says so", () => {
  const folder = mkdtempSync(join(tmpdir(), "autocode-config-"));
  const { AUTOCODE_ENROLMENT_TOKEN: _, ...rest } = ENV;
  const read = (file: string) => readConfig({ ...rest, AUTOCODE_ENROLMENT_TOKEN_FILE: file }, ROOT);
  try {
    const gone = join(folder, "gone");
    assert.throws(() => read(gone), {
      message:
        `AUTOCODE_ENROLMENT_TOKEN_FILE: ${gone} cannot be read and removed (ENOENT): a token is ` +
        "good for one start, the next one needs a new allocation",
    });
    const page = join(folder, "page");
    writeFileSync(page, "two words");
    assert.throws(() => read(page), {
      message: "AUTOCODE_ENROLMENT_TOKEN_FILE: the file must hold one token and nothing else",
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("every fault is named at once", () => {
  const bad = { AUTOCODE_API_URL: "ftp://x", AUTOCODE_RUN_AS: "0:0", AUTOCODE_ORPHAN_MS: "1.5" };
  assert.throws(() => readConfig(bad, ROOT), {
    message: [
      "AUTOCODE_ENROLMENT_TOKEN is not set",
      "AUTOCODE_ALLOCATION_DIR is not set",
      "AUTOCODE_AGENTS_DIR is not set",
      "AUTOCODE_API_URL must be an http or https address, or several with commas",
      "AUTOCODE_ORPHAN_MS must be a whole number of milliseconds",
      "AUTOCODE_RUN_AS must be uid:gid, neither of them 0, or allocation where Nomad starts us",
    ].join("; "),
  });
});
