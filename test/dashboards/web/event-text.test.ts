/** Every event has words, and whatever its data is, they are text. */
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { EVENT_TYPES } from "../../../orchestrator/contract/events.ts";
import { MARKUP } from "../../support/ui-fixture-data.ts";

interface EventText {
  kind: string;
  tone: string;
  title: string;
  detail?: string;
  body?: string;
  aside?: string;
  cost?: string;
}
const base = new URL("../../../dashboards/web/app/", import.meta.url).href;
const { eventText }: { eventText(event: unknown, currency: string): EventText } = await import(
  `${base}event-text.js`
);
const { visible }: { visible(text: string): string } = await import(`${base}format.js`);

const FIELDS = [
  "to",
  "reason",
  "failure_class",
  "tries",
  "level",
  "message",
  "percent",
  "spent_nanos",
  "limit_nanos",
  "required_nanos",
  "available_nanos",
  "model",
  "side",
  "input_tokens",
  "cost_nanos",
  "code",
  "step",
  "detail",
  "phase",
  "agent",
  "argv",
  "exit_code",
  "signal",
  "duration_ms",
  "outcome",
  "text",
  "name",
  "arguments",
  "is_error",
  "host",
  "method",
  "verdict",
  "tests_passed",
];

test("any data of any event becomes text", () => {
  const data = fc.dictionary(fc.constantFrom(...FIELDS), fc.jsonValue({ maxDepth: 2 }));
  const type = fc.constantFrom(...EVENT_TYPES, "a.later.one", "constructor", "__proto__");
  fc.assert(
    fc.property(type, data, (type, data) => {
      const { kind, tone, ...shown } = eventText({ type, data }, "CAD");
      assert.match(kind, /^(agent|money|system)$/);
      assert.match(tone, /^(good|bad|warn|busy|idle)$/);
      for (const value of Object.values(shown)) assert.match(typeof value, /string|boolean/);
      assert.ok(shown.cost === undefined || /^\d+$/.test(shown.cost));
    }),
  );
});

test("a settled call tells its tokens and its cost", () => {
  const data = {
    model: "m",
    side: "normal",
    input_tokens: 9_004,
    output_tokens: 12,
    cost_nanos: "31",
  };
  const shown = eventText({ type: "call.settled", data }, "CAD");
  assert.equal(shown.aside, "9,004 in, 12 out");
  assert.equal(shown.cost, "31");
});

test("markup is left as it is, for the page to show as text", () => {
  assert.equal(eventText({ type: "agent.message", data: { text: MARKUP } }, "CAD").body, MARKUP);
});

test("escape codes and changes of direction are made visible", () => {
  assert.equal(visible("\u001b[1;31mred\u001b[0m"), "red");
  assert.equal(visible("a\u001b]0;title\u0007b\r\nc\td"), "a␛]0;title␇b\nc\td");
  assert.equal(visible("if (admin\u202e)"), "if (admin⟨U+202E⟩)");
  assert.equal(visible("\u009b31m"), "\ufffd31m");
});

test("a token budget that is exhausted is told of in tokens, money in its currency", () => {
  const detail = (unit: object) => {
    const data = { required_nanos: "9000", available_nanos: "200", ...unit };
    return eventText({ type: "budget.exhausted", data, at: "2026-11-21T00:00:00Z" }, "CAD").detail;
  };
  assert.equal(detail({ unit: "TOK" }), "the next call may cost 9,000 tokens · 200 tokens is left");
  assert.doesNotMatch(detail({}) ?? "", /tokens/);
  assert.equal(detail({ unit: MARKUP }), detail({}));
});
