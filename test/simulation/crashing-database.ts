/**
 * A database as a process that will be killed sees it: after a number of operations everything
 * fails, the last one either before or after it took effect (the client cannot know which).
 */
import type { Database, Sql } from "../../orchestrator/db/database.ts";

export class Killed extends Error {
  override readonly name = "Killed";
}

export interface CrashingDatabase extends Database {
  isDead(): boolean;
}

/** `operations`: how many succeed; `isAppliedAtDeath`: whether the one after them takes effect. */
export function createCrashingDatabase(
  real: Database,
  { operations, isAppliedAtDeath }: { operations: number; isAppliedAtDeath: boolean },
): CrashingDatabase {
  let left = operations;
  let isDead = false;

  /** Runs `effect` as one operation of the process. */
  async function operate<Result>(effect: () => Promise<Result>): Promise<Result> {
    if (isDead) throw new Killed("the process is dead");
    left -= 1;
    if (left >= 0) {
      const result = await effect();
      // Another lane may have met the end meanwhile: its answer reaches nobody.
      if (isDead) throw new Killed("the process died before the answer came");
      return result;
    }
    isDead = true;
    if (isAppliedAtDeath) await effect();
    throw new Killed("the process was killed here");
  }

  const execute = ((statement: Parameters<Sql["execute"]>[0]) =>
    operate(() => real.sql.execute(statement))) as unknown as Sql["execute"];
  // A transaction's statements are lost together: it counts as one operation, at its commit.
  const transaction = ((run: (sql: Sql) => Promise<unknown>) =>
    operate(() =>
      real.sql.transaction((inner) => {
        if (isDead && !isAppliedAtDeath) throw new Killed("the process is dead");
        return run(inner as unknown as Sql);
      }),
    )) as unknown as Sql["transaction"];

  return {
    name: real.name,
    version: real.version,
    sql: { execute, transaction },
    listen: real.listen,
    isDead: () => isDead,
    [Symbol.asyncDispose]: async () => {},
  };
}
