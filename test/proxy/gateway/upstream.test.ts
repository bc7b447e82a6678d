/** Goal: a call goes where its provider's base says, in either convention. */
import assert from "node:assert/strict";
import test from "node:test";
import { type UpstreamPath, upstreamUrl } from "../../../proxy/gateway/upstream.ts";

test("upstream addresses", () => {
  const wanted: [string, UpstreamPath, string][] = [
    ["http://h:1", "/chat/completions", "http://h:1/v1/chat/completions"],
    ["http://h:1/", "/responses", "http://h:1/v1/responses"],
    ["http://h/v1", "/chat/completions", "http://h/v1/chat/completions"],
    ["http://h/v1/", "/chat/completions", "http://h/v1/chat/completions"],
    ["http://h/v1beta/openai/", "/chat/completions", "http://h/v1beta/openai/chat/completions"],
    ["http://h", "/messages", "http://h/v1/messages"],
    ["http://h/v1", "/messages/count_tokens", "http://h/v1/messages/count_tokens"],
    ["http://h/anthropic", "/messages", "http://h/anthropic/v1/messages"],
  ];
  for (const [base, path, url] of wanted) assert.equal(upstreamUrl(base, path).href, url);
});
