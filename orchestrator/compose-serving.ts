/** Wires what plans and serves models on own GPUs. */
import { join } from "node:path";
import { loadCards } from "../models/cards.ts";
import type { Catalog } from "../models/catalog.ts";
import { loadHardware } from "../models/hardware.ts";
import type { ServingConfig } from "./config-serving.ts";
import { findOwnGpus } from "./serving/own-gpus.ts";
import { createPlanner, type Planner } from "./serving/planner.ts";

/** @param root the folder that has `models/`. @throws CatalogError for a file that is not right. */
export async function buildPlanner(
  root: string,
  catalog: Catalog,
  { gpus: configured, hardwareFile }: Pick<ServingConfig, "gpus" | "hardwareFile">,
): Promise<Planner> {
  const folder = join(root, "models");
  const [cards, gpus] = await Promise.all([loadCards(folder), loadHardware(folder, hardwareFile)]);
  const own = () => findOwnGpus(configured, gpus.keys());
  return createPlanner({ catalog, cards, gpus, own });
}
