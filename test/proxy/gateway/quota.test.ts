/** Goal: each way in which providers say when they may be asked again is understood. */
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { quotaResetMs } from "../../../proxy/gateway/quota.ts";

const NOW_MS = Date.parse("2026-11-21T12:00:00Z");

/** Seconds from now. */
function wait(
  headers: Record<string, string | string[]>,
  body: string | object = "",
): number | null {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const untilMs = quotaResetMs(headers, Buffer.from(text), NOW_MS);
  return untilMs === null ? null : (untilMs - NOW_MS) / 1_000;
}

test("headers", () => {
  const said: [Record<string, string>, number | null][] = [
    [{ "retry-after": "7" }, 7],
    [{ "retry-after": "1.5" }, 1.5],
    [{ "retry-after-ms": "250", "retry-after": "9" }, 0.25],
    [{ "retry-after": "Sat, 21 Nov 2026 13:00:00 GMT" }, 3_600],
    [{ "retry-after": "Sat, 21 Nov 2026 11:00:00 GMT" }, null],
    [{ "retry-after": "soon" }, null],
    [{ "retry-after": "0" }, null],
    [{ "x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-requests": "0" }, 360],
    [{ "x-ratelimit-reset-tokens": "250ms" }, 0.25],
    [{ "x-ratelimit-reset-requests": "1d2h", "x-ratelimit-remaining-requests": "5" }, null],
    [{ "x-ratelimit-reset": String(NOW_MS / 1_000 + 90) }, 90],
    [
      {
        "anthropic-ratelimit-requests-reset": "2026-11-21T14:00:00Z",
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-tokens-reset": "2026-11-21T18:00:00Z",
        "anthropic-ratelimit-tokens-remaining": "900",
        "retry-after": "60",
      },
      7_200,
    ],
    [{ "anthropic-ratelimit-unified-reset": String(NOW_MS / 1_000 + 5 * 3_600) }, 18_000],
    [{ "retry-after": "999999999" }, 7 * 24 * 3_600],
    [{}, null],
  ];
  for (const [headers, seconds] of said) {
    assert.equal(wait(headers), seconds, JSON.stringify(headers));
  }
});

test("texts", () => {
  const said: [string | object, number | null][] = [
    ["Rate limit reached. Please try again in 6m0s. Visit …", 360],
    ["Please try again in 1.2s", 1.2],
    [{ error: { message: "Quota exceeded, please retry in 2 hours" } }, 7_200],
    [{ error: { message: "Please retry after 45 seconds" } }, 45],
    [{ error: { message: "Your limit resets at 2026-11-21T18:00:00Z" } }, 6 * 3_600],
    [{ error: { type: "usage_limit_reached", resets_at: NOW_MS / 1_000 + 60 } }, 60],
    [`Claude AI usage limit reached|${NOW_MS / 1_000 + 3_600}`, 3_600],
    ["Try again tomorrow", null],
    ["it happened at 2026-11-21T18:00:00Z", null],
    ["try again in 5 moments", null],
    ["", null],
  ];
  for (const [body, seconds] of said) assert.equal(wait({}, body), seconds, JSON.stringify(body));
  assert.equal(wait({ "retry-after": "3" }, "try again in 6m0s"), 3);
});

test("nothing that a server says makes it fail, or take longer than a week", () => {
  fc.assert(
    fc.property(fc.string(), fc.string({ maxLength: 300 }), (header, body) => {
      const seconds = wait({ "retry-after": header, "x-ratelimit-reset-x": header }, body);
      assert.ok(seconds === null || (seconds > 0 && seconds <= 7 * 24 * 3_600));
    }),
    { numRuns: 2_000 },
  );
});
