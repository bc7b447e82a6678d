/** Goal: the figure is the part of the observed time that workers answered. Method: properties. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { availability, type Observed } from "../../../orchestrator/workers/availability.ts";

const WINDOW = { startMs: 1_000, endMs: 2_000 };
const time = fc.integer({ min: 0, max: 3_000 });
const observed: fc.Arbitrary<Observed> = fc.record({
  joinedAtMs: time,
  leftAtMs: fc.option(time),
  outages: fc.array(
    fc.tuple(time, fc.option(fc.integer({ min: 0, max: 800 }))).map(([startedAtMs, lasted]) => ({
      startedAtMs,
      endedAtMs: lasted === null ? null : startedAtMs + lasted,
    })),
    { maxLength: 5 },
  ),
});

test("availability is what a look at each millisecond says", () => {
  fc.assert(
    fc.property(fc.array(observed, { maxLength: 4 }), (workers) => {
      let seen = 0;
      let silent = 0;
      for (let at = WINDOW.startMs; at < WINDOW.endMs; at++) {
        for (const { joinedAtMs, leftAtMs, outages } of workers) {
          if (at < joinedAtMs || at >= (leftAtMs ?? WINDOW.endMs)) continue;
          seen += 1;
          const isOut = outages.some(
            ({ startedAtMs, endedAtMs }) => at >= startedAtMs && at < (endedAtMs ?? WINDOW.endMs),
          );
          if (isOut) silent += 1;
        }
      }
      const figure = availability(workers, WINDOW);
      if (seen === 0) assert.equal(figure, null);
      else assert.ok(Math.abs((figure ?? -1) - (seen - silent) / seen) < 1e-12, String(figure));
    }),
    { numRuns: 60 },
  );
});

test("a worker that was silent for one part in a hundred is available for the rest", () => {
  const outages = [{ startedAtMs: 1_500, endedAtMs: 1_510 }];
  const worker = { joinedAtMs: 0, leftAtMs: null, outages };
  assert.equal(availability([worker], WINDOW), 0.99);
  assert.equal(availability([worker, { ...worker, outages: [] }], WINDOW), 0.995);
  assert.equal(availability([], WINDOW), null);
});
