/**
 * How the secrets are, looked at again and again: what probes, people and the log are told, and
 * what keeps a login renewed while nobody asks for a secret.
 */
import type { BackgroundTask } from "../runtime/background.ts";
import type { Log } from "../runtime/log.ts";
import type { Secrets, SecretsStatus } from "./secrets.ts";

export interface SecretsWatch {
  /** As it was seen last; looked at now, where it never was. */
  last(): Promise<SecretsStatus>;
  task: BackgroundTask;
}

/** Half of the shortest life that a token is likely to have; a state is never older. */
const PERIOD_MS = 5_000;

export function createSecretsWatch(
  secrets: Pick<Secrets, "name" | "status">,
  log: Log,
  periodMs: number = PERIOD_MS,
): SecretsWatch {
  let seen: SecretsStatus | null = null;
  return { last, task: { name: "watch_secrets", periodMs, activate: look } };

  async function last(): Promise<SecretsStatus> {
    return seen ?? look();
  }

  async function look(): Promise<SecretsStatus> {
    const now = await secrets.status();
    const before = seen?.state ?? "ready";
    seen = now;
    if (now.state !== before) {
      const facts = { engine: secrets.name, state: now.state, detail: now.detail };
      if (now.state === "ready") log.info(facts, "secrets can be opened again");
      else log.warn(facts, "secrets cannot be opened: what needs one waits");
    }
    return now;
  }
}
