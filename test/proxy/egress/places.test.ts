/** Goal: a session has no more connections, requests and bytes in memory at a time than it may. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createPlaces, PLACE_LIMITS } from "../../../proxy/egress/places.ts";

function enter(places: ReturnType<typeof createPlaces>, what: "connection" | "exchange") {
  const place = places.enter(what);
  assert.ok(place.outcome === "entered");
  return place;
}

test("as many as it may have, each kind by itself; one that leaves makes room for one", () => {
  const places = createPlaces({ connectionsMax: 1, exchangesMax: 2, heldBytesMax: 0 });
  const connection = enter(places, "connection");
  const [first] = [enter(places, "exchange"), enter(places, "exchange")];
  const refused = places.enter("exchange");
  assert.ok(refused.outcome === "refuse");
  assert.equal(refused.refusal.status, 429);
  assert.equal(refused.decision.reason, "too_many");
  assert.match(refused.decision.detail, /has 2 requests under way at a time/);
  assert.equal(places.enter("connection").outcome, "refuse");
  first.leave();
  first.leave();
  enter(places, "exchange");
  assert.equal(places.enter("exchange").outcome, "refuse", "left twice is left once");
  connection.leave();
  enter(places, "connection");
});

test("memory is of all of them together, and is given back with the place", () => {
  const places = createPlaces({ ...PLACE_LIMITS, heldBytesMax: 20 });
  const [one, other] = [enter(places, "exchange"), enter(places, "exchange")];
  assert.deepEqual([one.hold(7), other.hold(7), one.hold(1)], [7, 3, 0]);
  one.give(2);
  one.give(100);
  assert.equal(other.hold(100), 7, "no more is given back than was held");
  other.leave();
  assert.deepEqual([other.hold(1), one.hold(20)], [0, 10]);
});

test("what is kept for the record leaves half of the memory to what waits to be whole", () => {
  const places = createPlaces({ ...PLACE_LIMITS, heldBytesMax: 20 });
  const [one, other] = [enter(places, "exchange"), enter(places, "exchange")];
  assert.deepEqual([one.hold(15), other.hold(1)], [10, 0]);
  assert.equal(other.hold(15, "traffic"), 10);
  assert.equal(one.hold(1, "traffic"), 0, "both together have no more than all of it");
  one.give(4);
  assert.equal(other.hold(5, "traffic"), 4, "traffic may have more than its half");
  assert.equal(one.hold(4), 0, "and the record what is left");
  other.give(14);
  assert.equal(one.hold(4), 0, "of each kind no more is given back than was held of it");
  other.give(14, "traffic");
  assert.equal(one.hold(20), 4);
  one.hold(3, "traffic");
  one.leave();
  assert.deepEqual([other.hold(20), other.hold(20, "traffic")], [10, 10]);
});
