/** Ids: their form, their order, and that derived ones depend on what they name alone. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import { createIds, derivedId, ID_KINDS, isId } from "../../../orchestrator/runtime/ids.ts";
import { seededRandom, systemRandom } from "../../../orchestrator/runtime/random.ts";

test("every kind of id has the form that the tables check", () => {
  const ids = createIds(systemClock, systemRandom);
  for (const kind of ID_KINDS) {
    for (const id of [ids.next(kind), derivedId(kind, "a")]) {
      assert.match(id, new RegExp(`^${kind}_[0-7][0-9a-hjkmnp-tv-z]{25}$`));
      assert.ok(isId(kind, id));
    }
  }
});

test("an id holds its time, version and variant", () => {
  const ids = createIds({ now: () => Date.parse("2026-11-21T12:00:00.123Z") }, seededRandom(1));
  const alphabet = "0123456789abcdefghjkmnpqrstvwxyz";
  let uuid = 0n;
  for (const character of ids.next("trial").slice("trial_".length)) {
    uuid = uuid * 32n + BigInt(alphabet.indexOf(character));
  }
  assert.equal(new Date(Number(uuid >> 80n)).toISOString(), "2026-11-21T12:00:00.123Z");
  assert.equal((uuid >> 76n) & 0xfn, 7n);
  assert.equal((uuid >> 62n) & 3n, 2n);
});

test("ids sort by the time they were made, and do not repeat", () => {
  let now = 1_700_000_000_000;
  const ids = createIds({ now: () => now }, systemRandom);
  const made = Array.from({ length: 1_000 }, () => {
    now += 1;
    return ids.next("call");
  });
  assert.deepEqual(made.toSorted(), made);
  now = 0;
  const atOnce = Array.from({ length: 10_000 }, () => ids.next("call"));
  assert.equal(new Set(atOnce).size, atOnce.length);
});

test("one seed gives one sequence", () => {
  const sequence = () => {
    const ids = createIds({ now: () => 1 }, seededRandom(42));
    return [ids.next("trial"), ids.next("trial"), ids.next("key")];
  };
  assert.deepEqual(sequence(), sequence());
});

test("a derived id depends on each part of its name", () => {
  const base = derivedId("transfer", "day", "a", "b");
  assert.equal(derivedId("transfer", "day", "a", "b"), base);
  const others = [
    derivedId("transfer", "day", "ab", ""),
    derivedId("transfer", "daya", "b"),
    derivedId("transfer", "day", "b", "a"),
  ];
  assert.equal(new Set([base, ...others]).size, 4);
});

test("what is no id is not taken for one", () => {
  const id = createIds(systemClock, systemRandom).next("trial");
  assert.equal(isId("task", id), false);
  for (const text of ["", "trial_", id.toUpperCase(), `${id}0`, `trial_8${id.slice(7)}`]) {
    assert.equal(isId("trial", text), false, text);
  }
});
