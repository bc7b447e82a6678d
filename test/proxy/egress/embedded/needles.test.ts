/**
 * Goal: what must not pass does not, however a stream is cut, and nothing else is held or changed.
 * Method: every way to cut a text in three, and drawn texts beside the whole text's answer.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  createScrubber,
  createWatch,
  scrubText,
} from "../../../../proxy/egress/embedded/needles.ts";

const SCRUBS = [
  { value: "sk-abc", placeholder: "{{secret:a}}" },
  { value: "sk-abcdef", placeholder: "{{secret:long}}" },
  { value: "aab", placeholder: "-" },
];

test("values are scrubbed wherever a stream is cut", () => {
  const text = "x sk-abcdef sk-abc aaab sk-ab";
  const expected = "x {{secret:long}} {{secret:a}} a- sk-ab";
  for (let first = 0; first <= text.length; first++) {
    for (let second = first; second <= text.length; second++) {
      const parts = [text.slice(0, first), text.slice(first, second), text.slice(second)];
      assert.equal(
        scrubbed(parts, [{ value: "sk-abcdef", placeholder: "{{secret:long}}" }]),
        text.replace("sk-abcdef", "{{secret:long}}"),
      );
      assert.equal(
        scrubbed(
          parts,
          SCRUBS.filter(({ value }) => value !== "sk-abcdef"),
        ),
        expected.replace("{{secret:long}}", "{{secret:a}}def"),
      );
    }
  }
  assert.equal(scrubText("Bearer sk-abc", SCRUBS.slice(0, 1)), "Bearer {{secret:a}}");
});

test("what cannot begin a value goes on at once", () => {
  const scrubber = createScrubber(SCRUBS);
  assert.equal(scrubber.push(Buffer.from("data: 1\n\n")).toString(), "data: 1\n\n");
  assert.equal(scrubber.push(Buffer.from("data: sk-")).toString(), "data: ");
  assert.equal(scrubber.push(Buffer.from("x")).toString(), "sk-x");
  assert.equal(scrubber.end().length, 0);
});

test("a canary is found in any chunks, and before its last byte goes on", () => {
  fc.assert(
    fc.property(
      fc.array(fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 6 }), { maxLength: 9 }),
      fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 1, maxLength: 5 }),
      (parts, canary) => {
        const watch = createWatch([canary]);
        let passed = "";
        for (const part of parts) {
          const safe = watch.push(Buffer.from(part));
          if (safe === null) {
            assert.ok(parts.join("").includes(canary));
            assert.ok(!passed.includes(canary));
            return;
          }
          passed += safe;
        }
        passed += watch.end();
        assert.equal(passed, parts.join(""));
        assert.ok(!passed.includes(canary));
      },
    ),
  );
});

function scrubbed(parts: readonly string[], scrubs: typeof SCRUBS): string {
  const scrubber = createScrubber(scrubs);
  const passed = parts.map((part) => scrubber.push(Buffer.from(part)).toString());
  return passed.join("") + scrubber.end().toString();
}
