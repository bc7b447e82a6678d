/** Which seeds a simulation runs: SEED=n is that one, SEEDS=n the first n (`npm run sim`). */
export function seedsOf(count: number): readonly number[] {
  const { SEED, SEEDS } = process.env;
  if (SEED !== undefined) return [Number(SEED)];
  return Array.from({ length: SEEDS === undefined ? count : Number(SEEDS) }, (_, at) => at + 1);
}

/** The same, until MINUTES=n have passed: no seed is begun after that. */
export function* inTime(seeds: readonly number[]): Generator<number, void> {
  const { MINUTES } = process.env;
  const endMs = MINUTES === undefined ? Number.POSITIVE_INFINITY : Number(MINUTES) * 60_000;
  const begunMs = performance.now();
  for (const seed of seeds) {
    if (performance.now() - begunMs > endMs) return;
    yield seed;
  }
}
