/** Goal: whoever listens is told of what the store took, whichever way it was given. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { FlowRecord } from "../../../orchestrator/contract/flows.ts";
import { createIds, type FlowId } from "../../../orchestrator/runtime/ids.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import { type FlowLine, readLine, wholeOf } from "../../../orchestrator/traffic/flow-line.ts";
import { watchStored } from "../../../orchestrator/traffic/stored.ts";
import { flowRecord } from "../../support/flow-records.ts";
import { createMemoryTraffic } from "../../support/memory-traffic.ts";

const NOW_MS = Date.UTC(2026, 10, 22, 9);
const ids = createIds({ now: () => NOW_MS }, seededRandom(12));

test("records and lines are told of whole, but for what was refused", async () => {
  const memory = createMemoryTraffic();
  const [first, second, third] = [1, 2, 3].map(() => flowRecord(ids, NOW_MS)) as [
    FlowRecord,
    FlowRecord,
    FlowRecord,
  ];
  const appendLines = async (lines: readonly FlowLine[]) => {
    await memory.append(lines.map(wholeOf).slice(0, 1));
    return new Map([[third.id as FlowId, "too large"]]);
  };
  const { traffic, onStored } = watchStored({ ...memory, appendLines });
  const told: string[] = [];
  const listening = onStored((flows) => told.push(...flows.map((flow) => JSON.stringify(flow))));
  await traffic.append([first]);
  const lines = [second, third].map((flow) => readLine(Buffer.from(JSON.stringify(flow))));
  const refused = await traffic.appendLines?.(lines.filter((line) => line !== null));
  assert.deepEqual(told, [JSON.stringify(first), JSON.stringify(second)]);
  assert.deepEqual([...(refused?.keys() ?? [])], [third.id]);
  listening[Symbol.dispose]();
  await traffic.append([flowRecord(ids, NOW_MS)]);
  assert.equal(told.length, 2);
});

test("a store that takes no lines is watched as one that takes none", () => {
  assert.equal(watchStored(createMemoryTraffic()).traffic.appendLines, undefined);
});
