/** Goal: who waits for weights hears how far they are, and of a fault once; others are awaited. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Problem } from "../../../orchestrator/problem.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { createPulls } from "../../../orchestrator/serving/pulls.ts";
import {
  type FoundWeights,
  PulledElsewhere,
  type PullOptions,
} from "../../../orchestrator/weights/weights.ts";
import { eventually } from "../../support/eventually.ts";
import { catalog } from "../../support/served-models.ts";

const [card] = catalog.cards.values();
assert.ok(card !== undefined);
const WANTED = { card, quantisation: "none", acceptedLicences: [] };
const FOUND = { dir: "/weights", revision: "" };

/** A store whose pulls the test ends. */
function openPulls() {
  const begun: { options: PullOptions; end: PromiseWithResolvers<FoundWeights> }[] = [];
  let found: FoundWeights | null = null;
  const weights = {
    find: async () => found,
    pull: (_card: unknown, _quantisation: string, options: PullOptions) => {
      const end = Promise.withResolvers<FoundWeights>();
      begun.push({ options, end });
      return end.promise;
    },
  };
  const pulls = createPulls(weights, createLog("silent"), new AbortController().signal);
  const store = (is: FoundWeights) => {
    found = is;
  };
  return { pulls, begun, store };
}

test("one pull is begun, says how far it is, and leads to the folder", async () => {
  const { pulls, begun, store } = openPulls();
  assert.equal(pulls.progress("e"), null);
  assert.equal(await pulls.find("e", WANTED), null);
  assert.equal(await pulls.find("e", WANTED), null);
  assert.equal(begun.length, 1);
  begun[0]?.options.onProgress({
    ...{ model: "m", quantisation: "none", step: "fetching", detail: "" },
    ...{ bytes: 1, bytes_total: 4, bytes_per_second: null, eta_ms: null },
  });
  assert.equal(pulls.progress("e"), "pulls its weights 25 %");
  store(FOUND);
  begun[0]?.end.resolve(FOUND);
  await eventually(
    () => pulls.find("e", WANTED),
    (dir) => dir === FOUND.dir,
  );
  assert.equal(pulls.progress("e"), null);
});

test("who is ahead of its turn waits for a place, whose turn it is does not", async () => {
  const { pulls, begun, store } = openPulls();
  for (const id of ["a", "b", "c"]) await pulls.ahead(id, WANTED);
  assert.equal(begun.length, 2);
  assert.match(pulls.progress("c") ?? "", /^waits for its weights until others/);
  assert.equal(await pulls.find("d", WANTED), null);
  assert.equal(begun.length, 3);
  store(FOUND);
  for (const { end } of begun) end.resolve(FOUND);
  await eventually(
    async () => {
      await pulls.ahead("c", WANTED);
      return pulls.progress("c");
    },
    (words) => words === null,
  );
  assert.equal(begun.length, 3);
});

test("a fault is told once, and pulled again after; another's pull is waited for", async () => {
  const { pulls, begun, store } = openPulls();
  await pulls.find("e", WANTED);
  begun[0]?.end.reject(new Problem("conflict", "offline"));
  await assert.rejects(
    eventually(
      () => pulls.find("e", WANTED),
      (dir) => dir !== null,
    ),
    /offline/,
  );
  assert.equal(await pulls.find("e", WANTED), null);
  begun[1]?.end.reject(
    new PulledElsewhere("conflict", "Another pull of m is under way (process 7)"),
  );
  await eventually(
    () => pulls.find("e", WANTED),
    () => begun.length === 3,
  );
  assert.match(pulls.progress("e") ?? "", /^Another pull of m/);
  store(FOUND);
  begun[2]?.end.reject(
    new PulledElsewhere("conflict", "Another pull of m is under way (process 7)"),
  );
  await eventually(
    () => pulls.find("e", WANTED),
    (dir) => dir === FOUND.dir,
  );
});

test("a pull that nobody waits for any more is ended", async () => {
  const { pulls, begun } = openPulls();
  await pulls.find("e", WANTED);
  pulls.drop("e");
  assert.ok(begun[0]?.options.signal.aborted);
  assert.equal(pulls.progress("e"), null);
});

test("who was in line for a pull and has its turn, or its weights, is in line no more", async () => {
  const { pulls, begun, store } = openPulls();
  for (const id of ["a", "b", "c", "d"]) await pulls.ahead(id, WANTED);
  assert.equal(begun.length, 2);
  store(FOUND);
  assert.equal(await pulls.find("c", WANTED), FOUND.dir);
  assert.equal(pulls.progress("c"), null);
  // Others are still pulled.
  await pulls.ahead("d", WANTED);
  assert.equal(pulls.progress("d"), null);
});
