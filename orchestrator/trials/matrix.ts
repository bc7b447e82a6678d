/** An experiment becomes trials: pure, and the same for the same seed. */
import { seededRandom } from "../runtime/random.ts";

export interface MatrixInput {
  agents: readonly string[];
  pairs: readonly string[];
  tasks: readonly string[];
  attempts: number;
  /** `all`: every cell; `random`: one agent and pair drawn for each task and attempt. */
  assignment: "all" | "random";
  seed: number;
}

export interface MatrixCell {
  agent: string;
  pair: string;
  task: string;
  /** From 1. */
  attempt: number;
  /** The trial's own seed, drawn from the experiment's. */
  seed: number;
}

/** First attempts of every cell come before second ones, so that an early look compares all. */
export function expandMatrix(input: MatrixInput): MatrixCell[] {
  const { agents, pairs, tasks, attempts, assignment } = input;
  const random = seededRandom(input.seed);
  const cells: MatrixCell[] = [];
  for (let attempt = 1; attempt <= attempts; attempt++) {
    for (const task of tasks) {
      const combinations = agents.flatMap((agent) => pairs.map((pair) => ({ agent, pair })));
      const drawn = combinations[random.below(combinations.length)];
      if (drawn === undefined) throw new RangeError("expandMatrix: needs an agent and a pair");
      for (const { agent, pair } of assignment === "all" ? combinations : [drawn]) {
        cells.push({ agent, pair, task, attempt, seed: random.below(2 ** 32) });
      }
    }
  }
  return cells;
}
