/** Goal: a change of how the secrets are is told once, and what was seen last is told at once. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Log } from "../../../orchestrator/runtime/log.ts";
import type { SecretsStatus } from "../../../orchestrator/secrets/secrets.ts";
import { createSecretsWatch } from "../../../orchestrator/secrets/watch.ts";

test("the log has each change once; a probe waits for nobody", async () => {
  const lines: string[] = [];
  const log = {
    info: (_: object, text: string) => lines.push(`info ${text}`),
    warn: ({ state }: { state: string }, text: string) => lines.push(`warn ${state} ${text}`),
  } as unknown as Log;
  let now: SecretsStatus = { state: "ready", detail: "as it is to be" };
  let asked = 0;
  const status = async () => {
    asked += 1;
    return now;
  };
  const watch = createSecretsWatch({ name: "vault", status }, log);
  assert.equal((await watch.last()).state, "ready");
  assert.equal((await watch.last()).state, "ready");
  assert.equal(asked, 1);
  for (const state of ["sealed", "sealed", "expired", "ready", "ready"] as const) {
    now = { state, detail: "so it is" };
    await watch.task.activate();
    assert.deepEqual(await watch.last(), now);
  }
  assert.deepEqual(lines, [
    "warn sealed secrets cannot be opened: what needs one waits",
    "warn expired secrets cannot be opened: what needs one waits",
    "info secrets can be opened again",
  ]);
});
