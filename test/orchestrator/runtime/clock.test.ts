/** Calendar days in a project's time zone, over the days that are not 24 hours long. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { localDate, rfc3339, systemClock } from "../../../orchestrator/runtime/clock.ts";

test("the local date, around midnight and around changes of the clock", () => {
  const table = [
    ["2026-11-21T04:59:59.999Z", "America/Toronto", "2026-11-20"],
    ["2026-11-21T05:00:00.000Z", "America/Toronto", "2026-11-21"],
    // Summer time ends on 2026-11-01: that day is 25 hours long.
    ["2026-11-01T03:59:59.999Z", "America/Toronto", "2026-10-31"],
    ["2026-11-01T04:00:00.000Z", "America/Toronto", "2026-11-01"],
    ["2026-11-02T04:59:59.999Z", "America/Toronto", "2026-11-01"],
    ["2026-03-08T04:59:59.999Z", "America/Toronto", "2026-03-07"],
    ["2026-03-09T04:00:00.000Z", "America/Toronto", "2026-03-09"],
    ["2026-12-31T23:59:59.999Z", "UTC", "2026-12-31"],
    ["2026-12-31T13:00:00.000Z", "Pacific/Auckland", "2027-01-01"],
  ] as const;
  for (const [at, timeZone, date] of table) {
    assert.equal(localDate(Date.parse(at), timeZone), date, `${at} in ${timeZone}`);
  }
  assert.throws(() => localDate(0, "Mars/Olympus"), RangeError);
});

test("times are RFC 3339 in UTC with milliseconds", () => {
  assert.equal(rfc3339(1_795_262_400_007), "2026-11-21T12:00:00.007Z");
  assert.ok(systemClock.now() > Date.parse("2026-01-01"));
});
