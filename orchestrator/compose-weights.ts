/** The weight store, and the hub that it pulls from. */
import type { ModelCard } from "../models/card.ts";
import type { Catalog } from "../models/catalog.ts";
import type { WeightPulls } from "./api/services.ts";
import type { Config } from "./config.ts";
import type { Database } from "./db/database.ts";
import type { Layout } from "./projects/layout.ts";
import { monotonicMs, systemClock } from "./runtime/clock.ts";
import type { Secrets } from "./secrets/secrets.ts";
import { withServedWeights } from "./serving/weight-users.ts";
import { createHub } from "./weights/hub.ts";
import { createPulls, type UsersHeld } from "./weights/pulls.ts";
import { createWeightStore } from "./weights/store.ts";
import type { Weights } from "./weights/weights.ts";

/** The public hub, where AUTOCODE_WEIGHTS_URL names no other. */
const PUBLIC_HUB = "https://huggingface.co";
const TOKEN = "provider/huggingface/key";

export interface WeightParts extends AsyncDisposable {
  weights: Weights;
  pulls: WeightPulls;
}

export function buildWeights(
  parts: {
    layout: Pick<Layout, "weights">;
    secrets: Pick<Secrets, "get">;
    cards: ReadonlyMap<string, ModelCard>;
    catalog: Pick<Catalog, "pairs">;
    db: Pick<Database, "sql">;
  },
  { serving }: Pick<Config, "serving">,
): WeightParts {
  const { secrets, cards, catalog, layout, db } = parts;
  const hub = serving.isOffline
    ? null
    : createHub({
        url: serving.weightsUrl ?? PUBLIC_HUB,
        token: async () => serving.weightsToken ?? (await secrets.get(TOKEN))?.value ?? null,
      });
  const dir = layout.weights;
  const weights = createWeightStore({
    ...{ dir, hub, cards },
    clock: systemClock,
    nowMs: monotonicMs,
  });
  const users: UsersHeld = (work) => withServedWeights(db, work);
  return {
    weights,
    pulls: createPulls(weights, cards, catalog, dir, users),
    [Symbol.asyncDispose]: async () => {
      await hub?.[Symbol.asyncDispose]();
    },
  };
}
