/** What somebody may have meant, who wrote a name that there is not. Pure. */

/**
 * The shortest name of `names` that has `text` in it, else the one with the fewest letters to
 * change; null only where there are none.
 */
export function nearestName(text: string, names: Iterable<string>): string | null {
  const wanted = text.trim().toLowerCase();
  const known = [...names];
  const longer = known.filter((name) => wanted !== "" && name.toLowerCase().includes(wanted));
  const [shortest] = longer.toSorted((a, b) => a.length - b.length);
  if (shortest !== undefined) return shortest;
  let nearest: { name: string; changes: number } | null = null;
  for (const name of known) {
    const changes = changesBetween(wanted, name.toLowerCase());
    if (nearest === null || changes < nearest.changes) nearest = { name, changes };
  }
  return nearest?.name ?? null;
}

/** Letters to put in, take out or replace (Levenshtein's distance). */
function changesBetween(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (const [index, letter] of [...from].entries()) {
    const above = row;
    row = [index + 1];
    for (let column = 1; column <= to.length; column++) {
      const replaced = (above[column - 1] ?? 0) + (letter === to[column - 1] ? 0 : 1);
      row.push(Math.min(replaced, (above[column] ?? 0) + 1, (row[column - 1] ?? 0) + 1));
    }
  }
  return row[to.length] ?? 0;
}
