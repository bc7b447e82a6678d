/** Goal: headers pass by name or not at all; hostile.test.ts sends them through a whole gateway. */
import assert from "node:assert/strict";
import test from "node:test";
import { clientHeaders, upstreamHeaders } from "../../../proxy/gateway/headers.ts";

test("up: what is listed, with betas that change a price taken out", () => {
  const incoming = {
    accept: "x".repeat(3_000),
    authorization: "Bearer secret",
    "anthropic-version": "2023-06-01",
    "anthropic-beta": "context-1m-2025-08-07",
    host: "h",
  };
  assert.deepEqual(upstreamHeaders(incoming, "call_1"), {
    "content-type": "application/json",
    "accept-encoding": "identity",
    "x-request-id": "call_1",
    "anthropic-version": "2023-06-01",
  });
});

test("down: what is listed, with our own ids", () => {
  const upstream = { "content-type": "a/b", "request-id": "theirs", "set-cookie": ["x"] };
  assert.deepEqual(clientHeaders(upstream, "call_1"), {
    "content-type": "a/b",
    "request-id": "call_1",
    "x-request-id": "call_1",
  });
});
