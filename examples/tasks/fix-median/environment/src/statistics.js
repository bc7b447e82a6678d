/** The sum of the values over their number. */
export function mean(values) {
  needsValues(values, "mean");
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The value in the middle: half of the values are below it, half above. */
export function median(values) {
  needsValues(values, "median");
  const sorted = values.sort();
  return sorted[Math.floor(sorted.length / 2)];
}

/** The difference between the largest and the smallest value. */
export function spread(values) {
  needsValues(values, "spread");
  return Math.max(...values) - Math.min(...values);
}

function needsValues(values, name) {
  if (values.length === 0) throw new RangeError(`${name}: there are no values`);
}
