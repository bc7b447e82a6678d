/**
 * Group commit: one flush in flight; what arrives meanwhile goes into the next one together.
 * Nothing waits on a timer, so a request that is alone is served alone, at once.
 */

export interface GroupCommitOptions<Item, Result> {
  /** Serves a lone item. */
  one: (item: Item) => Promise<Result>;
  /** Serves several, all or none; results in their order. */
  many: (items: readonly Item[]) => Promise<Result[]>;
  /** Whether a failure of `many` may be the fault of one item: then each is served alone. */
  isItemFault: (error: unknown) => boolean;
  itemsMax: number;
}

interface Waiting<Item, Result> {
  item: Item;
  resolve: (result: Result) => void;
  reject: (error: unknown) => void;
}

/** A function that serves an item with whatever others wait at the same time. */
export function createGroupCommit<Item, Result>({
  one,
  many,
  isItemFault,
  itemsMax,
}: GroupCommitOptions<Item, Result>): (item: Item) => Promise<Result> {
  let waiting: Waiting<Item, Result>[] = [];
  let isRunning = false;

  return (item) =>
    new Promise((resolve, reject) => {
      waiting.push({ item, resolve, reject });
      if (isRunning) return;
      isRunning = true;
      void run();
    });

  async function run(): Promise<void> {
    while (waiting.length > 0) {
      const taken = waiting.slice(0, itemsMax);
      waiting = waiting.slice(itemsMax);
      await (taken.length === 1 ? alone(taken) : together(taken));
    }
    isRunning = false;
  }

  async function alone(taken: readonly Waiting<Item, Result>[]): Promise<void> {
    for (const { item, resolve, reject } of taken) {
      await one(item).then(resolve, reject);
    }
  }

  async function together(taken: readonly Waiting<Item, Result>[]): Promise<void> {
    try {
      const results = await many(taken.map(({ item }) => item));
      for (const [index, { resolve }] of taken.entries()) resolve(results[index] as Result);
    } catch (error) {
      if (isItemFault(error)) return alone(taken);
      for (const { reject } of taken) reject(error);
    }
  }
}
