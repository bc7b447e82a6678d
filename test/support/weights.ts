/** A weight store in a folder of its own, which pulls from a hub of this machine. */
import assert from "node:assert/strict";
import { mkdtempDisposable, readdir, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ModelCard } from "../../models/card.ts";
import type { WeightProgress } from "../../orchestrator/contract/weights.ts";
import { Problem } from "../../orchestrator/problem.ts";
import { createHub, type HubOptions } from "../../orchestrator/weights/hub.ts";
import { createWeightStore, type WeightStoreOptions } from "../../orchestrator/weights/store.ts";
import type { FoundWeights, PullOptions, Weights } from "../../orchestrator/weights/weights.ts";
import { COMMIT, type FakeHub, madeUpCard, madeUpFiles, NEEDED, openFakeHub } from "./fake-hub.ts";

export const FIRST = "model-00001-of-00002.safetensors";
export const SECOND = "model-00002-of-00002.safetensors";
export const MANIFEST = "autocode-manifest.json";

export interface WeightWorld extends AsyncDisposable {
  hub: FakeHub;
  dir: string;
  card: ModelCard;
  /** Each is a process's own: nothing is remembered between two. */
  store(changes?: Partial<WeightStoreOptions> & { hubOptions?: Partial<HubOptions> }): Weights;
  pull(changes?: Partial<PullOptions>, weights?: Weights): Promise<FoundWeights>;
  progress: WeightProgress[];
  /** Each file of a folder with its bytes. */
  read(dir: string): Promise<Map<string, Buffer>>;
}

export async function openWeightWorld(card: ModelCard = madeUpCard()): Promise<WeightWorld> {
  const stack = new AsyncDisposableStack();
  const folder = stack.use(await mkdtempDisposable(join(tmpdir(), "weights-")));
  const hub = stack.use(await openFakeHub());
  hub.repositories.set("made/up", { commit: COMMIT, files: madeUpFiles() });
  const progress: WeightProgress[] = [];
  const dir = join(folder.path, "store");
  const world: WeightWorld = {
    ...{ hub, dir, card, progress, store, pull, read },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
  return world;

  function store({
    hubOptions = {},
    ...changes
  }: Partial<WeightStoreOptions> & { hubOptions?: Partial<HubOptions> } = {}): Weights {
    const own = createHub({
      url: hub.url,
      token: async () => null,
      retryMs: 1,
      ...hubOptions,
    });
    stack.use(own);
    return createWeightStore({
      ...{ dir, hub: own, cards: new Map([[world.card.name, world.card]]) },
      clock: { now: () => Date.parse("2026-11-22T00:00:00Z") },
      nowMs: () => performance.now(),
      ...changes,
    });
  }

  function pull(
    changes: Partial<PullOptions> = {},
    weights: Weights = store(),
  ): Promise<FoundWeights> {
    return weights.pull(world.card, "bf16", {
      acceptedLicences: [],
      onProgress: (line) => void progress.push(line),
      signal: new AbortController().signal,
      ...changes,
    });
  }

  async function read(from: string): Promise<Map<string, Buffer>> {
    const names = await readdir(from).catch((): string[] => []);
    const files = names.sort().map(async (name) => {
      return [name, await readFile(join(from, name))] as const;
    });
    return new Map(await Promise.all(files));
  }
}

/** The folder is the repository's needed files, byte for byte, and the manifest. */
export async function assertWhole(world: WeightWorld, dir: string): Promise<void> {
  const found = await world.read(dir);
  assert.deepEqual([...found.keys()].sort(), [...NEEDED, MANIFEST].sort());
  const files = world.hub.repositories.get("made/up")?.files ?? new Map<string, Buffer>();
  for (const path of NEEDED) assert.deepEqual(found.get(path), files.get(path), path);
}

/** For `assert.rejects`: a Problem of this code that says these words. */
export function problem(code: string, ...words: RegExp[]) {
  return (error: unknown) => {
    assert.ok(error instanceof Problem, String(error));
    assert.equal(error.code, code, error.message);
    for (const word of words) assert.match(error.message, word);
    return true;
  };
}
