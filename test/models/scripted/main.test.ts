/** Goal: the process starts, serves, ends on SIGTERM, and refuses bad input in one line. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";

const ROOT = join(import.meta.dirname, "../../..");
const SCRIPTS = join(ROOT, "examples/scripts");

function start(...args: string[]) {
  const main = join(ROOT, "models/scripted/main.ts");
  return spawn(process.execPath, [main, ...args], { stdio: ["ignore", "pipe", "pipe"] });
}

async function refusal(...args: string[]) {
  const child = start(...args);
  const [stderr, [code]] = await Promise.all([text(child.stderr), once(child, "exit")]);
  return { code, stderr };
}

test("serves a folder and ends on SIGTERM", async () => {
  const child = start("--scripts", SCRIPTS, "--port", "0");
  const [line] = await once(child.stdout, "data");
  const url = /^scripted model on (http:\/\/127\.0\.0\.1:\d+)\n$/.exec(String(line))?.[1];
  assert.equal((await fetch(`${url}/v1/models`)).status, 200);
  child.kill("SIGTERM");
  assert.deepEqual(await once(child, "exit"), [0, null]);
});

test("refuses bad options, a folder that is not there, and a broken script", async () => {
  const usage = "usage: node models/scripted/main.ts --scripts DIR [--port N] [--log]\n";
  assert.deepEqual(await refusal("--scripts", SCRIPTS, "--port", "x"), { code: 2, stderr: usage });
  assert.deepEqual(await refusal("--what"), { code: 2, stderr: usage });
  assert.deepEqual(await refusal("--scripts", "/nonexistent"), {
    code: 1,
    stderr: "/nonexistent: the folder of scripts cannot be read\n",
  });
  const folder = mkdtempSync(join(tmpdir(), "scripts-"));
  try {
    writeFileSync(join(folder, "bad.yaml"), "steps: []\nstep: 1\n");
    assert.deepEqual(await refusal("--scripts", folder), {
      code: 1,
      stderr: "bad.yaml:2: step: is not a key of a script\n",
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
