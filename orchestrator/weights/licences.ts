/**
 * Which licences were accepted, by whom and when: a file a licence in the store, so that whoever
 * has the weights has the answer beside them.
 */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import type { Licence } from "../../models/card.ts";
import { Problem } from "../problem.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import { writeDurably } from "./manifest.ts";

export type Acceptance = Static<typeof Acceptance>;
export const Acceptance = Type.Object({
  licence: Type.String(),
  url: Type.String(),
  accepted_by: Type.String(),
  accepted_at: Type.String(),
});

export interface Licences {
  /**
   * Whose word a pull of such a model stands on; null where it needs nobody's. A licence that is
   * among `accepted` is accepted from now on.
   *
   * @throws Problem `conflict` with the flag that accepts it.
   */
  require(
    licence: Licence,
    model: string,
    given: { accepted: readonly string[]; by: string },
  ): Promise<Acceptance | null>;
}

export function createLicences(dir: string, clock: Clock): Licences {
  return { require };

  async function require(
    { id, url, needsAcceptance }: Licence,
    model: string,
    { accepted, by }: { accepted: readonly string[]; by: string },
  ): Promise<Acceptance | null> {
    if (!needsAcceptance) return null;
    const path = join(dir, `${id.replaceAll(/[^A-Za-z0-9._-]/g, "_")}.json`);
    const before = await read(path);
    if (before?.licence === id) return before;
    if (!accepted.includes(id)) {
      throw new Problem(
        "conflict",
        `${model} is under the licence ${id}, whose terms bind who uses it: read them at ${url}, ` +
          `and accept them with --accept-licence ${id}`,
        { facts: { licence: id, licence_url: url } },
      );
    }
    const acceptance = {
      licence: id,
      url,
      accepted_by: by,
      accepted_at: rfc3339(clock.now()),
    };
    await mkdir(dir, { recursive: true });
    await writeDurably(path, acceptance);
    return acceptance;
  }

  async function read(path: string): Promise<Acceptance | null> {
    try {
      const value: unknown = JSON.parse(await readFile(path, "utf8"));
      return Value.Check(Acceptance, value) ? value : null;
    } catch (error) {
      const isAbsent = (error as NodeJS.ErrnoException).code === "ENOENT";
      if (isAbsent || error instanceof SyntaxError) return null;
      throw error;
    }
  }
}
