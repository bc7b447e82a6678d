/** Goal: the thread answers each draft by its number, in any mix of sizes; an ended one says so. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import { openRecordThread } from "../../../orchestrator/traffic/record-thread.ts";
import { NO_SECRETS } from "../../../orchestrator/traffic/secret-forms.ts";
import { captureOf, flowDraft } from "../../support/flow-drafts.ts";

const NOW_MS = Date.UTC(2026, 10, 21, 12);
const ids = createIds({ now: () => NOW_MS }, seededRandom(8));
const LIMITS = { bodyBytesMax: 2 ** 20, messageBytesMax: 2 ** 20 };

test("drafts become records on a thread, with what it was told of since", async () => {
  const thread = openRecordThread({ door: "gateway", limits: LIMITS, known: NO_SECRETS });
  const drafts = [9, 70_000, 3].map((size) =>
    flowDraft(ids, NOW_MS, { request: { body: captureOf("s3cret-of-ours ".repeat(size)) } }),
  );
  const records = await Promise.all(drafts.map(thread.toRecord));
  for (const [at, record] of records.entries()) {
    const { id, door, request } = JSON.parse(record);
    assert.deepEqual([id, door], [drafts[at]?.id, "gateway"]);
    assert.match(request.body.content, /^s3cret-of-ours /);
  }
  thread.know({ values: [{ value: "s3cret-of-ours", kind: "key" }], sha256: new Set() });
  const [first] = drafts;
  assert.ok(first !== undefined);
  assert.match(JSON.parse(await thread.toRecord(first)).request.body.content, /^\[redacted:key\] /);
  const wrong = flowDraft(ids, Number.NaN);
  await assert.rejects(thread.toRecord(wrong), /Invalid time value/);
  await thread[Symbol.asyncDispose]();
  await assert.rejects(thread.toRecord(first), /the thread ended/);
});
