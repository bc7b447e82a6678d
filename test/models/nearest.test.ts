/** Goal: of several names the one with the fewest changed letters is meant. */
import assert from "node:assert/strict";
import test from "node:test";
import { nearestName } from "../../models/nearest.ts";

test("the nearest of several names, whatever their case", () => {
  const gpus = ["rtx-3090", "rtx-4090", "h100", "h200"];
  const meant: [text: string, name: string][] = [
    ["4090", "rtx-4090"],
    ["RTX4090", "rtx-4090"],
    ["h300", "h100"],
    ["h20", "h200"],
    ["rtx-3080", "rtx-3090"],
  ];
  for (const [text, name] of meant) assert.equal(nearestName(text, gpus), name, text);
  assert.equal(nearestName("anything", []), null);
});
