/** Builds what compares the record with the ledger, and the ledger with what others counted. */
import type { Config } from "./config.ts";
import { HOSTED } from "./config.ts";
import type { Database } from "./db/database.ts";
import { Problem } from "./problem.ts";
import type { BackgroundTask } from "./runtime/background.ts";
import { systemClock as clock } from "./runtime/clock.ts";
import type { Log } from "./runtime/log.ts";
import type { Secrets } from "./secrets/secrets.ts";
import { createEngineSamples } from "./serving/engine-samples.ts";
import { SERVED_PREFIX } from "./serving/rows.ts";
import { countedSources } from "./traffic/counted.ts";
import { createReconciler, type Reconciler } from "./traffic/reconciliation.ts";
import type { Traffic } from "./traffic/traffic.ts";
import { createMatcher, type Matcher } from "./traffic/unmatched.ts";
import { createAnthropicUsage, createOpenAIUsage } from "./traffic/usage-reports.ts";
import { createVllmUsage } from "./traffic/usage-vllm.ts";
import { createEgressEvents } from "./trials/egress-events.ts";

export interface Accounting {
  matcher: Matcher;
  reconciler: Reconciler;
  /** One process does these for all. */
  duties: BackgroundTask[];
}

/** @param providers addresses of every model server that we know. */
export function buildAccounting(
  {
    db,
    traffic,
    secrets,
    providers,
    log,
  }: {
    db: Database;
    traffic: Traffic;
    secrets: Pick<Secrets, "get">;
    providers: () => readonly string[];
    log: Log;
  },
  config: Pick<Config, "providers">,
): Accounting {
  const { tell } = createEgressEvents(db, clock);
  const matcher = createMatcher({ db, traffic, providers, tell, clock, log });
  const baseUrl = (name: "openai" | "anthropic") =>
    config.providers.find((each) => each.name === name)?.baseUrl ?? HOSTED[name];
  const readKey = (name: string) => () => readAdminKey(secrets, name);
  const samples = createEngineSamples(db, clock);
  const engines = config.providers
    .filter(({ name }) => /^vllm(-|$)/.test(name))
    .map(({ name: provider, baseUrl }) => {
      const observe = (text: string) =>
        samples.observe({ provider, startedAtMs: null, gpus: null }, text);
      return createVllmUsage({ db, clock, observe }, { provider, baseUrl });
    });
  const reports = [
    createOpenAIUsage({ baseUrl: baseUrl("openai"), readKey: readKey("openai") }),
    createAnthropicUsage({ baseUrl: baseUrl("anthropic"), readKey: readKey("anthropic") }),
  ];
  // Engines of ours are counted by who looks after them: compose-serving.ts.
  const sources = async () => [
    ...engines,
    ...(await countedSources(db, SERVED_PREFIX)),
    ...reports,
  ];
  const reconciler = createReconciler({ db, sources, clock, log });
  const tasks = [matcher.sweep, reconciler.task, samples.retention];
  const duties = [...tasks, ...engines.map(({ task }) => task)];
  return { matcher, reconciler, duties };
}

/** None while the secrets are sealed: a report is asked for again, an hour later. */
async function readAdminKey(secrets: Pick<Secrets, "get">, name: string): Promise<string | null> {
  try {
    return (await secrets.get(`provider/${name}/admin-key`))?.value ?? null;
  } catch (error) {
    if (error instanceof Problem && error.code === "secrets_sealed") return null;
    throw error;
  }
}
