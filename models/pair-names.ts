/**
 * Which pair is meant by what people write: its name, a part of it that no other has ("14b"), or
 * one of its models. Pure.
 */
import type { Catalog } from "./catalog.ts";
import { nearestName } from "./nearest.ts";
import { CatalogError } from "./yaml-file.ts";

/**
 * The pair's name in the catalogue: "14b" is "coder-14b" while one pair alone has that part.
 *
 * @throws CatalogError naming the nearest, or those that could be meant.
 */
export function findPairName(catalog: Pick<Catalog, "pairs">, text: string): string {
  const wanted = text.trim().toLowerCase();
  const pairs = [...catalog.pairs.values()];
  const named = pairs.find(({ name }) => name.toLowerCase() === wanted);
  if (named !== undefined) return named.name;
  const meant = pairs.filter(({ name, normal, thinking }) => {
    const models = [normal.name, normal.upstreamName, thinking.name, thinking.upstreamName];
    return hasPart(name, wanted) || models.some((model) => model.toLowerCase() === wanted);
  });
  const [only, ...others] = meant;
  if (only !== undefined && others.length === 0) return only.name;
  const known = [...catalog.pairs.keys()].join(", ");
  if (only === undefined) {
    const nearest = nearestName(text, catalog.pairs.keys());
    const hint = nearest === null ? "" : `; the nearest is "${nearest}"`;
    throw new CatalogError(`pair: unknown pair "${text}"${hint}; known: ${known}`);
  }
  const names = meant.map(({ name }) => name).join(", ");
  throw new CatalogError(`pair: "${text}" may be any of ${names}; write its whole name`);
}

/** Whether `wanted` is made of whole parts of `name`: "14b" of "coder-14b", not "4b". */
function hasPart(name: string, wanted: string): boolean {
  return wanted !== "" && `-${name.toLowerCase()}-`.includes(`-${wanted}-`);
}
