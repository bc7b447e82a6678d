/** What a run of the hidden tests means. Pure, and closed to doubt: only a plain pass passes. */
import type { VerifyReport } from "../orchestrator/contract/worker.ts";
import type { ProcessEnd } from "./process.ts";
import type { Reward } from "./reward.ts";
import type { TestCounts } from "./test-report.ts";

export type Judgement = Pick<VerifyReport, "verdict" | "detail" | "reward">;

/** Statuses by which a shell says that it found no such command, or could not run it. */
const COULD_NOT_RUN = new Map([
  [126, "the test command could not be executed"],
  [127, "the test command was not found"],
]);

/**
 * `script`: a Harbor script, whose reward file decides whatever its status; without one, and for a
 * command, the exit status decides, unless a report counts a failed test.
 */
export function judge(
  end: ProcessEnd,
  reward: Reward,
  counts: TestCounts | null,
  wallMs: number,
): Judgement {
  switch (end.cause) {
    case "failed_to_start":
      return error(`the tests did not start: ${end.startError}`);
    case "stopped":
      return error("the verification was stopped");
    case "wall_clock":
    case "idle":
      return failed(`timed out after ${wallMs} ms`);
    case "exceeded":
      return failed(`ended, since ${end.exceeded}`);
    case "exited":
      break;
  }
  if (reward.outcome === "bad") return error(reward.detail);
  if (reward.outcome === "reward") {
    const verdict = reward.reward >= 1 ? "passed" : "failed";
    return {
      verdict,
      reward: reward.reward,
      detail: `the hidden tests gave a reward of ${reward.reward}`,
    };
  }
  const { exitCode, signal } = end;
  const couldNotRun = exitCode === null ? undefined : COULD_NOT_RUN.get(exitCode);
  if (couldNotRun !== undefined) return error(couldNotRun);
  if (counts !== null && counts.failed > 0) {
    return failed(`${counts.failed} of ${counts.passed + counts.failed} tests failed`);
  }
  if (exitCode !== 0)
    return failed(`ended ${signal === null ? `with ${exitCode}` : `by ${signal}`}`);
  return {
    verdict: "passed",
    reward: 1,
    detail: counts === null ? "ended with 0" : `${counts.passed} tests passed`,
  };
}

function failed(detail: string): Judgement {
  return { verdict: "failed", detail, reward: 0 };
}

function error(detail: string): Judgement {
  return { verdict: "error", detail, reward: null };
}
