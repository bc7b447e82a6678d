/**
 * Whether a concurrent history could have happened one operation after another: a linearizability
 * checker after Wing and Gong (1993), with Lowe's memory of the states already tried (2017).
 *
 * An operation whose answer was lost may have taken effect at any time after it was asked, or
 * never.
 */

/** Far more than any history needs that has an order. */
const STATES_MAX = 300_000;

export interface Operation<Op, Result> {
  op: Op;
  /** Null: nobody knows. */
  result: Result | null;
  /** Points of one order of all events; an operation without an answer never returns. */
  askedAt: number;
  answeredAt: number;
}

export interface Model<State, Op, Result> {
  /** What `op` does to the state and answers when it is alone. */
  apply(state: State, op: Op): { state: State; result: Result };
  isSame(expected: Result, seen: Result): boolean;
  /** Equal for equal states. */
  key(state: State): string;
}

export interface Contradiction<Op, Result> {
  /** The longest order that could be built, and what fits nowhere after it. */
  order: Operation<Op, Result>[];
  rest: Operation<Op, Result>[];
}

/** @returns null when there is an order in which the model gives the same answers. */
export function findContradiction<State, Op, Result>(
  history: readonly Operation<Op, Result>[],
  initial: State,
  model: Model<State, Op, Result>,
): Contradiction<Op, Result> | null {
  const tried = new Set<string>();
  const isDone = history.map(() => false);
  const order: number[] = [];
  let longest: number[] = [];
  if (search(initial)) return null;
  return {
    order: longest.map((at) => history[at] as Operation<Op, Result>),
    rest: history.filter((one, at) => !longest.includes(at) && one.result !== null),
  };

  function search(state: State): boolean {
    if (order.length > longest.length) longest = [...order];
    let firstAnswer = Number.POSITIVE_INFINITY;
    let isAnyLeft = false;
    for (const [at, one] of history.entries()) {
      if (isDone[at]) continue;
      if (one.result !== null) isAnyLeft = true;
      firstAnswer = Math.min(firstAnswer, one.answeredAt);
    }
    if (!isAnyLeft) return true;
    const key = `${isDone.map((done) => (done ? 1 : 0)).join("")} ${model.key(state)}`;
    if (tried.has(key)) return false;
    tried.add(key);
    if (tried.size > STATES_MAX) throw new Error(`undecided after ${STATES_MAX} states`);
    for (const [at, one] of history.entries()) {
      // What was asked after another had its answer comes after that one.
      if (isDone[at] || one.askedAt > firstAnswer) continue;
      const applied = model.apply(state, one.op);
      if (one.result !== null && !model.isSame(applied.result, one.result)) continue;
      // One that may never have come is worth a try only where it changes something.
      if (one.result === null && model.key(applied.state) === model.key(state)) continue;
      isDone[at] = true;
      order.push(at);
      if (search(applied.state)) return true;
      order.pop();
      isDone[at] = false;
      // What changes nothing fits here if it fits anywhere: another order would be no better.
      if (model.key(applied.state) === model.key(state)) return false;
    }
    return false;
  }
}
