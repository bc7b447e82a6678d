/**
 * Goal: what a machine's GPUs are is what is configured, else what its driver says, in the names
 * of the hardware table.
 *
 * Method: the driver's own program is one of the test's, found on PATH as the real one is.
 */
import assert from "node:assert/strict";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { after, test } from "node:test";
import { loadHardware } from "../../../models/hardware.ts";
import { findOwnGpus, matchGpus } from "../../../orchestrator/serving/own-gpus.ts";

const gpus = await loadHardware(join(import.meta.dirname, "../../../models"));
const known = [...gpus.keys()];
const folder = await mkdtemp(join(tmpdir(), "autocode-driver-"));
const path = process.env["PATH"];
process.env["PATH"] = `${folder}${delimiter}${path}`;
after(async () => {
  process.env["PATH"] = path;
  await rm(folder, { recursive: true });
});

/** A driver's program that checks how it is asked. */
async function installDriver(...lines: string[]): Promise<void> {
  const program = join(folder, "nvidia-smi");
  const asked = `[ "$*" = "--query-gpu=name --format=csv,noheader" ] || exit 2`;
  await writeFile(program, ["#!/bin/sh", asked, ...lines, ""].join("\n"));
  await chmod(program, 0o755);
}

test("the driver is asked where nothing is configured", async () => {
  const name = "NVIDIA GeForce RTX 4090";
  await installDriver(`echo "${name}"`, `echo "${name}"`);
  assert.deepEqual(await findOwnGpus(null, known), { gpu: "rtx-4090", gpu_count: 2 });
  const configured = { name: "h100", count: 8 };
  assert.deepEqual(await findOwnGpus(configured, known), { gpu: "h100", gpu_count: 8 });
});

test("a driver without a GPU, or that fails, is no GPU", async () => {
  await installDriver('echo "No devices were found"', "exit 6");
  assert.equal(await findOwnGpus(null, known), null);
  await installDriver("exit 0");
  assert.equal(await findOwnGpus(null, known), null);
  await rm(join(folder, "nvidia-smi"));
  process.env["PATH"] = folder;
  assert.equal(await findOwnGpus(null, known), null, "there is no such program");
  process.env["PATH"] = `${folder}${delimiter}${path}`;
});

test("a driver's names are the table's, whatever else is in them", () => {
  const cases: readonly [string, string | null][] = [
    ["NVIDIA A100-SXM4-80GB", "a100-80"],
    ["NVIDIA A100 80GB PCIe", "a100-80"],
    ["NVIDIA H100 80GB HBM3", "h100"],
    ["NVIDIA L40S", "l40s"],
    ["NVIDIA GeForce RTX 3090", "rtx-3090"],
    ["Tesla T4", null],
    ["", null],
  ];
  for (const [name, gpu] of cases) {
    const expected = gpu === null ? null : { gpu, gpu_count: 1 };
    assert.deepEqual(matchGpus(`${name}\n`, known), expected, name);
  }
  // Each kind's own title is found again, and is not taken for another kind.
  for (const { name, title } of gpus.values()) assert.equal(matchGpus(title, known)?.gpu, name);
});

test("of several kinds the most numerous is what plans are for", () => {
  const names = ["NVIDIA L40S", "NVIDIA H100 PCIe", "Tesla T4", "NVIDIA H100 PCIe"].join("\n");
  assert.deepEqual(matchGpus(names, known), { gpu: "h100-pcie", gpu_count: 2 });
});
