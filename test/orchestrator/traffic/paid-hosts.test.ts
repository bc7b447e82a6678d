/** Goal: the table knows hosts by their names alone, and calls by how their paths end. */
import assert from "node:assert/strict";
import test from "node:test";
import { isCallPath, isLlmHost, LLM_HOSTS } from "../../../orchestrator/traffic/paid-hosts.ts";

test("each host is a name, once, in lower case", () => {
  assert.deepEqual([...new Set(LLM_HOSTS)], LLM_HOSTS);
  for (const host of LLM_HOSTS) assert.match(host, /^(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)+$/);
});

test("a name that only ends like one is another host", () => {
  for (const host of ["notapi.openai.com", "api.openai.com.evil.example", "openai.azure.com"]) {
    assert.equal(isLlmHost(host, 443, []), false, host);
  }
  assert.equal(isLlmHost("a.b.openai.azure.com", 443, []), true);
});

test("an own provider is its host at its port", () => {
  const own = ["https://llm.example.org/v1", "http://10.0.0.7:8000", "no url"];
  assert.equal(isLlmHost("llm.example.org", 443, own), true);
  assert.equal(isLlmHost("llm.example.org", 80, own), false);
  assert.equal(isLlmHost("10.0.0.7", 8000, own), true);
});

test("paths", () => {
  const calls = ["/v1/messages", "/v1/messages/", "/openai/v1/embeddings", "/v1/images/edits"];
  for (const path of calls) assert.equal(isCallPath(path), true, path);
  const free = [
    "/v1/models",
    "/v1/messages/count_tokens",
    "/v1/messages/batches",
    "/completionsx",
    "/",
  ];
  for (const path of free) assert.equal(isCallPath(path), false, path);
});
