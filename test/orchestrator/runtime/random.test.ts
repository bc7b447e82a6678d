/** Randomness: repeatable from a seed, within its limit, and even. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom, systemRandom } from "../../../orchestrator/runtime/random.ts";

test("a seed decides everything, and seeds differ", () => {
  const draw = (seed: number) => {
    const random = seededRandom(seed);
    return [...random.bytes(16), random.below(1_000_000), random.below(2 ** 32)];
  };
  assert.deepEqual(draw(7), draw(7));
  assert.equal(new Set(Array.from({ length: 100 }, (_, seed) => draw(seed).join())).size, 100);
});

for (const [name, random] of [
  ["seeded", seededRandom(20_261_121)],
  ["system", systemRandom],
] as const) {
  test(`${name}: below stays in its range and favours nothing`, () => {
    const counts = Array.from({ length: 10 }, () => 0);
    const draws = 100_000;
    for (let draw = 0; draw < draws; draw++) {
      const drawn = random.below(10);
      assert.ok(Number.isInteger(drawn) && drawn >= 0 && drawn < 10);
      counts[drawn] = (counts[drawn] ?? 0) + 1;
    }
    // Chi-squared with 9 degrees of freedom: above 40 in one run of a hundred thousand.
    const expected = draws / 10;
    const chi = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    assert.ok(chi < 40, `chi-squared ${chi}`);
  });

  test(`${name}: limits`, () => {
    assert.equal(random.below(1), 0);
    assert.ok(random.below(2 ** 32) < 2 ** 32);
    for (const limit of [0, -1, 1.5, Number.NaN, 2 ** 32 + 1]) {
      assert.throws(() => random.below(limit), RangeError);
    }
    assert.equal(random.bytes(33).length, 33);
  });
}
