/**
 * Goal: a schedule falls on the dates that a person would tick in a calendar, in every time zone
 * and across every change of clocks, each once; a clock that goes backwards makes nothing due.
 *
 * Method: fast-check draws schedules, zones and sequences of instants, with a bias to the nights
 * on which clocks change; what is due is compared with a walk over the days, one by one.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  addDays,
  datesUntil,
  daysBetween,
  doCollide,
  isDate,
  nextDate,
  nthDate,
  type Schedule,
  startOfDate,
} from "../../../orchestrator/projects/calendar.ts";
import { localDate } from "../../../orchestrator/runtime/clock.ts";

const ZONES = [
  "America/Toronto",
  "Europe/Berlin",
  "Australia/Lord_Howe",
  "Pacific/Apia",
  "Asia/Kathmandu",
  "America/Sao_Paulo",
  "UTC",
] as const;
const HOUR_MS = 3_600_000;

/** What becomes due after `fromMs` and up to `toMs`, where each look funds what is not yet. */
function datesDue(
  schedule: Schedule,
  { fromMs, toMs }: { fromMs: number; toMs: number },
  dateAt: (atMs: number) => string,
): string[] {
  const seen = dateAt(fromMs);
  return datesUntil(schedule, dateAt(toMs)).filter((date) => date > seen);
}

const zones = fc.constantFrom(...ZONES);
const dates = fc.integer({ min: 0, max: 12_000 }).map((days) => addDays("2005-01-01", days));
const schedules: fc.Arbitrary<Schedule> = fc.record({
  every: fc.constantFrom("week", "two_weeks", "month"),
  starting: dates,
});

function inZone(timeZone: string): (atMs: number) => string {
  return (atMs) => localDate(atMs, timeZone);
}

/** Whether a person would say that the schedule falls on `date`. */
function fallsOn({ every, starting }: Schedule, date: string): boolean {
  if (date < starting) return false;
  if (every !== "month") return daysBetween(starting, date) % (every === "week" ? 7 : 14) === 0;
  const isLast = addDays(date, 1).endsWith("-01");
  const [day, wanted] = [Number(date.slice(8)), Number(starting.slice(8))];
  return day === wanted || (isLast && wanted > day);
}

test("the dates of a schedule are those of a walk over the calendar", () => {
  fc.assert(
    fc.property(schedules, fc.integer({ min: 0, max: 800 }), (schedule, days) => {
      const until = addDays(schedule.starting, days);
      const walked: string[] = [];
      for (let date = schedule.starting; date <= until; date = addDays(date, 1)) {
        if (fallsOn(schedule, date)) walked.push(date);
      }
      assert.deepEqual(datesUntil(schedule, until), walked);
      const next = nextDate(schedule, until);
      assert.ok(next > until && fallsOn(schedule, next), next);
      assert.deepEqual(datesUntil(schedule, next), [...walked, next]);
    }),
  );
});

test("month ends: the 31st is the last day of a shorter month, and the 31st again after it", () => {
  const ends = [0, 1, 2, 3, 4].map((index) =>
    nthDate({ every: "month", starting: "2028-01-31" }, index),
  );
  assert.deepEqual(ends, ["2028-01-31", "2028-02-29", "2028-03-31", "2028-04-30", "2028-05-31"]);
  assert.equal(nthDate({ every: "month", starting: "2026-11-30" }, 3), "2027-02-28");
  assert.equal(
    nextDate({ every: "two_weeks", starting: "2026-11-01" }, "2026-10-01"),
    "2026-11-01",
  );
});

test("a date begins at its first instant, in every zone", () => {
  fc.assert(
    fc.property(zones, dates, (timeZone, date) => {
      const at = startOfDate(date, inZone(timeZone));
      assert.ok(localDate(at, timeZone) >= date);
      assert.ok(localDate(at - 1, timeZone) < date);
    }),
    { numRuns: 300 },
  );
  const known: readonly [string, string, string][] = [
    ["America/Toronto", "2026-11-01", "2026-11-01T04:00:00.000Z"],
    ["America/Toronto", "2026-11-02", "2026-11-02T05:00:00.000Z"],
    ["Europe/Berlin", "2026-03-30", "2026-03-29T22:00:00.000Z"],
    // Half an hour of summer time.
    ["Australia/Lord_Howe", "2026-04-06", "2026-04-05T13:30:00.000Z"],
    ["Asia/Kathmandu", "2026-11-21", "2026-11-20T18:15:00.000Z"],
    // Clocks went from 0:00 to 1:00: there was no midnight.
    ["America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00.000Z"],
    // Samoa left the 30th out, and crossed the date line.
    ["Pacific/Apia", "2011-12-30", "2011-12-30T10:00:00.000Z"],
    ["Pacific/Apia", "2011-12-31", "2011-12-30T10:00:00.000Z"],
  ];
  for (const [timeZone, date, at] of known) {
    assert.equal(new Date(startOfDate(date, inZone(timeZone))).toISOString(), at, timeZone);
  }
});

test("what becomes due between instants is due once, however the time is cut", () => {
  const steps = fc.array(fc.integer({ min: 1, max: 40 * 24 }), { minLength: 1, maxLength: 30 });
  fc.assert(
    fc.property(schedules, zones, steps, (schedule, timeZone, hours) => {
      const zone = inZone(timeZone);
      const startMs = startOfDate(addDays(schedule.starting, -20), zone);
      const due: string[] = [];
      let atMs = startMs;
      for (const hour of hours) {
        const toMs = atMs + hour * HOUR_MS;
        due.push(...datesDue(schedule, { fromMs: atMs, toMs }, zone));
        atMs = toMs;
      }
      assert.deepEqual(due, datesDue(schedule, { fromMs: startMs, toMs: atMs }, zone));
      assert.equal(new Set(due).size, due.length);
      assert.ok(due.every((date) => date >= schedule.starting));
    }),
    { numRuns: 200 },
  );
});

test("R14: a clock that goes backwards makes nothing due", () => {
  fc.assert(
    fc.property(schedules, zones, fc.integer({ min: 1, max: 9_999 }), (schedule, zone, hours) => {
      const fromMs = startOfDate(schedule.starting, inZone(zone)) + 100 * 24 * HOUR_MS;
      const toMs = fromMs - hours * HOUR_MS;
      assert.deepEqual(datesDue(schedule, { fromMs, toMs }, inZone(zone)), []);
    }),
    { numRuns: 100 },
  );
});

test("two schedules collide when they ever fall on one day", () => {
  fc.assert(
    fc.property(schedules, schedules, (one, other) => {
      if (one.every !== other.every) return assert.equal(doCollide(one, other), false);
      const later = [one.starting, other.starting].sort()[1] ?? "";
      const until = addDays(later, 1_500);
      const ofOne = new Set(datesUntil(one, until));
      const meet = datesUntil(other, until).some((date) => ofOne.has(date));
      assert.equal(doCollide(one, other), meet);
    }),
    { numRuns: 100 },
  );
});

test("what is no day of the calendar is none", () => {
  for (const text of ["2026-02-29", "2026-13-01", "2026-1-1", "1969-12-31", "9999-01-01", "soon"]) {
    assert.equal(isDate(text), false, text);
  }
  assert.ok(["2028-02-29", "2026-11-01"].every(isDate));
});
