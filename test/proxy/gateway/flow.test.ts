/** Goal: a record's bodies hold no more memory than is kept, and say how long they were. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { FlowDraft } from "../../../orchestrator/traffic/sink.ts";
import { captured, withHeads } from "../../../proxy/gateway/flow.ts";

test("what is cut is a copy; what is not stays as it is", () => {
  const bytes = Buffer.from("0123456789");
  assert.equal(captured(bytes, 10).kept, bytes);
  const cut = captured(bytes, 4, 5);
  assert.deepEqual([cut.kept.toString(), cut.byteCount], ["0123", 15]);
  bytes.fill("x");
  assert.equal(cut.kept.toString(), "0123");
});

test("heads of both bodies, with their whole lengths", () => {
  const draft = {
    request: { body: { kept: Buffer.from("abcdef"), byteCount: 60 } },
    response: { body: null },
  } as Partial<FlowDraft> as FlowDraft;
  const head = withHeads(draft, 2);
  assert.deepEqual(head.request?.body, { kept: Buffer.from("ab"), byteCount: 60 });
  assert.equal(head.response?.body, null);
});
