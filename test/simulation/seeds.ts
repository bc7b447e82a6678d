/** Which seeds a simulation runs: SEED=n is that one, SEEDS=n the first n (`npm run sim`). */
export function seedsOf(count: number): readonly number[] {
  const { SEED, SEEDS } = process.env;
  if (SEED !== undefined) return [Number(SEED)];
  return Array.from({ length: SEEDS === undefined ? count : Number(SEEDS) }, (_, at) => at + 1);
}
