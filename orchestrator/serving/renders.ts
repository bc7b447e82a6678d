/**
 * Planned pairs as files and commands to run by hand: models/serving/render.ts with what is on this
 * machine's disk.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { ModelCard } from "../../models/card.ts";
import { renderPair } from "../../models/serving/render.ts";
import { CatalogError } from "../../models/yaml-file.ts";
import type { RenderedPair, RenderRequest } from "../contract/model-render.ts";
import type { ModelPlan } from "../contract/models.ts";
import { Problem } from "../problem.ts";
import type { Weights } from "../weights/weights.ts";
import type { Planner } from "./planner.ts";

export interface Renders {
  /** @throws Problem `invalid_request`: no such pair or GPU, or the form cannot serve the plan. */
  render(request: RenderRequest): Promise<RenderedPair>;
}

export interface RenderParts {
  planner: Pick<Planner, "plan">;
  cards: ReadonlyMap<string, ModelCard>;
  weights: Pick<Weights, "find">;
  /** The weight store's folder. */
  weightsRoot: string;
  /** `models/serving` of this checkout. */
  servingDir: string;
  /** The Python that has vLLM. */
  python: string;
}

export function createRenders(parts: RenderParts): Renders {
  const { planner, cards, weights, weightsRoot, servingDir, python } = parts;
  return { render };

  async function render({ plan: wanted, as }: RenderRequest): Promise<RenderedPair> {
    const plan = planner.plan(wanted);
    const found = await Promise.all(plan.models.map(weightsOf));
    const weightsDirs = new Map(found.flat());
    const plugins = await readPlugins();
    try {
      return renderPair(plan, as, { cards, weightsDirs, weightsRoot, plugins, python });
    } catch (error) {
      if (!(error instanceof CatalogError)) throw error;
      throw new Problem("invalid_request", error.message, { cause: error });
    }
  }

  async function weightsOf({ model, quantisation }: ModelPlan): Promise<[string, string][]> {
    const found = await weights.find(model, quantisation);
    return found === null ? [] : [[model, found.dir]];
  }

  /** vLLM's plugins, what they import, and chat templates; app.py is Ray's, and not theirs. */
  async function readPlugins(): Promise<Map<string, string>> {
    const names = (await readdir(servingDir)).filter(
      (name) => /[.](py|jinja)$/.test(name) && name !== "app.py",
    );
    const texts = names.sort().map(async (name): Promise<[string, string]> => {
      return [name, await readFile(join(servingDir, name), "utf8")];
    });
    return new Map(await Promise.all(texts));
  }
}
