/** Medians, spreads, and how a bar is printed: for people, or as a line of JSON. */

export interface Bar {
  bar: string;
  value: number;
  unit: string;
  limit: number;
  /** Whether the value must be at most or at least the limit. */
  is: "at most" | "at least";
  peers: Readonly<Record<string, unknown>>;
}

export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

export function percentile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
}

export function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}

export function rounded(value: number): number {
  return Number.isFinite(value) ? Number(value.toPrecision(3)) : value;
}

/** "17.3 (16.9–18.2)" */
export function spreadOf(values: readonly number[]): string {
  if (values.length === 0) return "–";
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return `${rounded(median(values))} (${rounded(low)}–${rounded(high)})`;
}

export function printBar(bar: Bar, isJson: boolean): void {
  const { is, ...rest } = bar;
  const value = rounded(bar.value);
  const pass = is === "at most" ? value <= bar.limit : value >= bar.limit;
  if (isJson) {
    const { bar: name, unit, limit, peers } = rest;
    print(JSON.stringify({ bar: name, value, unit, limit, pass, peers }));
    return;
  }
  const words = `${bar.bar}  ${value} ${bar.unit}, ${is} ${bar.limit}`;
  print(`${words}: ${pass ? "pass" : "MISS"}`);
}

export function printTable(head: readonly string[], lines: readonly (readonly string[])[]): void {
  const widths = head.map((title, at) =>
    Math.max(title.length, ...lines.map((line) => (line[at] ?? "").length)),
  );
  for (const line of [head, ...lines]) {
    const cells = line.map((cell, at) =>
      at === 0 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0),
    );
    print(`  ${cells.join("  ")}`);
  }
}
