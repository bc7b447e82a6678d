/** Goal: an experiment's seed decides its trials, and every draw is a cell that was asked for. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { expandMatrix } from "../../../orchestrator/trials/matrix.ts";

const names = (prefix: string) =>
  fc.integer({ min: 1, max: 4 }).map((count) => {
    return Array.from({ length: count }, (_, index) => `${prefix}${index}`);
  });
const input = fc.record({
  agents: names("agent"),
  pairs: names("pair"),
  tasks: names("task"),
  attempts: fc.integer({ min: 1, max: 4 }),
  assignment: fc.constantFrom("all" as const, "random" as const),
  seed: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
});

test("counts, order and names are as asked; the same seed gives the same cells", () => {
  fc.assert(
    fc.property(input, (wanted) => {
      const cells = expandMatrix(wanted);
      assert.deepEqual(expandMatrix(wanted), cells);
      const { agents, pairs, tasks, attempts, assignment } = wanted;
      const combinations = assignment === "all" ? agents.length * pairs.length : 1;
      assert.equal(cells.length, combinations * tasks.length * attempts);
      for (const { agent, pair, task, seed } of cells) {
        assert.ok(agents.includes(agent) && pairs.includes(pair) && tasks.includes(task));
        assert.ok(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32);
      }
      const order = cells.map(({ attempt }) => attempt);
      assert.deepEqual(
        order,
        order.toSorted((a, b) => a - b),
      );
      if (assignment === "random") return;
      const distinct = cells.map(({ agent, pair, task, attempt }) =>
        [agent, pair, task, attempt].join("/"),
      );
      assert.equal(new Set(distinct).size, cells.length);
    }),
  );
});

test("random assignment favours no cell", () => {
  const counts = new Map<string, number>();
  const drawn = expandMatrix({
    agents: ["a", "b"],
    pairs: ["x", "y"],
    tasks: ["t"],
    attempts: 4_000,
    assignment: "random",
    seed: 7,
  });
  for (const { agent, pair } of drawn) {
    counts.set(agent + pair, (counts.get(agent + pair) ?? 0) + 1);
  }
  assert.equal(counts.size, 4);
  // Five standard deviations of a fair draw.
  for (const count of counts.values()) assert.ok(Math.abs(count - 1_000) < 140, String(count));
});
