const UNITS = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1_000, ms: 1 };

/** The milliseconds of a duration such as `1h30m`. */
export function parseDuration(text) {
  const match = /(\d+)(ms|d|h|m|s)/.exec(text);
  if (match === null) throw new RangeError(`not a duration: ${text}`);
  return Number(match[1]) * UNITS[match[2]];
}
