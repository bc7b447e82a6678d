/**
 * The calendar of a project's money: which local dates a schedule falls on, and when they begin in
 * a time zone. Dates are `YYYY-MM-DD`, so that they compare as text. Pure.
 *
 * A date is due from its first instant on: where clocks go forward over midnight, from the first
 * instant after the gap; a date that a time zone leaves out altogether is due with the next one.
 */
import type { TopUpEntry } from "../contract/projects.ts";
import type { EpochMs } from "../runtime/clock.ts";

export type LocalDate = string;
export type Schedule = Pick<TopUpEntry, "every" | "starting">;

const DAY_MS = 86_400_000;
/** Further than any time zone is, or was, from UTC. */
const OFFSET_MAX_MS = 26 * 3_600_000;
/** The years in which people who plan budgets live. */
const YEARS = { first: 1970, last: 9998 };

/** Whether `text` is a day of the calendar: "2026-02-30" is none. */
export function isDate(text: string): boolean {
  const atMs = Date.parse(`${text}T00:00:00Z`);
  if (!/^\d{4}-\d{2}-\d{2}$/.test(text) || Number.isNaN(atMs)) return false;
  const year = Number(text.slice(0, 4));
  return dateOf(atMs) === text && year >= YEARS.first && year <= YEARS.last;
}

/** The calendar day `days` after `date`, or before it. */
export function addDays(date: LocalDate, days: number): LocalDate {
  return dateOf(utcOf(date) + days * DAY_MS);
}

/** How many days `to` is after `from`. */
export function daysBetween(from: LocalDate, to: LocalDate): number {
  return (utcOf(to) - utcOf(from)) / DAY_MS;
}

/**
 * The `index`th date of the schedule, its start being the 0th. A month without that day has its
 * last one: a schedule from the 31st falls on the 28th of February, and on the 31st of March.
 */
export function nthDate({ every, starting }: Schedule, index: number): LocalDate {
  if (every === "week") return addDays(starting, 7 * index);
  if (every === "two_weeks") return addDays(starting, 14 * index);
  const [year = 0, month = 0, day = 0] = starting.split("-").map(Number);
  const lastDay = new Date(Date.UTC(year, month + index, 0)).getUTCDate();
  return dateOf(Date.UTC(year, month - 1 + index, Math.min(day, lastDay)));
}

/** The dates of the schedule from its start to `until`, both included. */
export function datesUntil(schedule: Schedule, until: LocalDate): LocalDate[] {
  const dates: LocalDate[] = [];
  for (let index = 0; ; index++) {
    const date = nthDate(schedule, index);
    if (date > until) return dates;
    dates.push(date);
  }
}

/** The first date of the schedule after `date`. */
export function nextDate(schedule: Schedule, date: LocalDate): LocalDate {
  for (let index = countUntil(schedule, date); ; index++) {
    const next = nthDate(schedule, index);
    if (next > date) return next;
  }
}

/** How many dates of the schedule there are up to `until`, without listing them: may be one off. */
function countUntil({ every, starting }: Schedule, until: LocalDate): number {
  const days = daysBetween(starting, until);
  const length = { week: 7, two_weeks: 14, month: 31 }[every];
  return Math.max(0, Math.floor(days / length));
}

/**
 * The first instant of `date` in a time zone, to the millisecond. Where clocks went back over
 * midnight, so that the date began twice, it is one of the two.
 *
 * @param localDate the date of an instant in that time zone.
 */
export function startOfDate(date: LocalDate, localDate: (atMs: EpochMs) => LocalDate): EpochMs {
  let before = utcOf(date) - OFFSET_MAX_MS;
  let after = utcOf(date) + OFFSET_MAX_MS;
  while (after - before > 1) {
    const middle = Math.floor((before + after) / 2);
    if (localDate(middle) >= date) after = middle;
    else before = middle;
  }
  return after;
}

/** Whether two schedules ever fall on one day: their transfers would be taken for one. */
export function doCollide(one: Schedule, other: Schedule): boolean {
  if (one.every !== other.every) return false;
  if (one.every === "month") {
    const [day, otherDay] = [one, other].map(({ starting }) => Number(starting.slice(8)));
    return day === otherDay || Math.min(day ?? 0, otherDay ?? 0) >= 28;
  }
  return daysBetween(one.starting, other.starting) % (one.every === "week" ? 7 : 14) === 0;
}

function utcOf(date: LocalDate): EpochMs {
  return Date.parse(`${date}T00:00:00Z`);
}

function dateOf(atMs: EpochMs): LocalDate {
  return new Date(atMs).toISOString().slice(0, 10);
}
