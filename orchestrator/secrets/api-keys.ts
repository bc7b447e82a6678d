/**
 * The keys of model providers: from the environment, else from the secrets, read again and again so
 * that a rotated key needs no restart. `OPENAI_API_KEY` is the secret "provider/openai".
 *
 * Invariant: what the environment names is used as it is, and is no fallback: while the secrets
 * cannot be opened, a key that was read before stays in memory, and one that was not is not there.
 */
import { Problem } from "../problem.ts";
import type { Log } from "../runtime/log.ts";
import type { Secrets } from "./secrets.ts";

export interface ApiKeys {
  /** A variable that ends in _API_KEY; null when neither it nor its secret is set. */
  read(variable: string): string | null;
  /** Reads the secrets anew. Whether any key changed. */
  refresh(): Promise<boolean>;
}

const FOLDER = "provider";
const VARIABLE = /^([A-Z][A-Z0-9_]*)_API_KEY$/;

export function createApiKeys(
  secrets: Pick<Secrets, "get" | "list"> | null,
  readVariable: (name: string) => string | null,
  log: Log,
): ApiKeys {
  let kept: ReadonlyMap<string, string> = new Map();
  return { read, refresh };

  function read(variable: string): string | null {
    const [, name] = VARIABLE.exec(variable) ?? [];
    if (name === undefined) return null;
    return readVariable(variable) ?? kept.get(`${FOLDER}/${name.toLowerCase()}`) ?? null;
  }

  async function refresh(): Promise<boolean> {
    if (secrets === null) return false;
    try {
      const paths = await secrets.list(FOLDER);
      const found = await Promise.all(
        paths.map(async (path) => ({ path, secret: await secrets.get(path) })),
      );
      const next = new Map(
        found.flatMap(({ path, secret }) => (secret === null ? [] : [[path, secret.value]])),
      );
      const before = kept;
      kept = next;
      const isSame =
        next.size === before.size && [...next].every(([path, value]) => before.get(path) === value);
      if (!isSame) log.info({ count: next.size }, "provider keys changed");
      return !isSame;
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== "secrets_sealed") throw error;
      return false;
    }
  }
}
