/** Applying a mutant's patch: exact, once, or not at all. */
import type { Mutant } from "./mutants.ts";

/** `text` without the guard. @throws Error when the patch does not fit the file any more. */
export function patched({ guard, file, find, replace }: Mutant, text: string): string {
  const count = text.split(find).length - 1;
  if (count !== 1) {
    throw new Error(`${file} holds the guard "${guard}" ${count} times: mend mutants.ts`);
  }
  return text.replace(find, () => replace);
}
