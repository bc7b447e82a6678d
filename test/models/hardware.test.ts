/** Goal: the hardware table is sound, an installation's own entries go first, faults are placed. */
import assert from "node:assert/strict";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { loadHardware, mergeHardware, parseHardware } from "../../models/hardware.ts";

const MODELS = join(import.meta.dirname, "../../models");
const OWN = `gpus:
  - name: h100
    title: NVIDIA H100 of ours
    memory_mib: 80000
    bandwidth_gb_per_second: 3350
    bf16_tflops: 989.4
    link_gb_per_second: 450
    watts: 700
    rate: { per_hour: "1.10", currency: CAD, source: bought in 2025 over four years }
    source: measured
`;

test("the table has the common kinds, each within what silicon can be", async () => {
  const gpus = await loadHardware(MODELS);
  assert.deepEqual(
    [...gpus.keys()],
    [
      ...["rtx-3090", "rtx-4090", "rtx-5090", "a10g", "l4", "l40s"],
      ...["a100-40", "a100-80", "h100", "h100-pcie", "h200", "b200"],
    ],
  );
  for (const [name, gpu] of gpus) {
    assert.equal(gpu.name, name);
    // FLOPS for each byte that is read: below 50 a typing error, as is more than 500.
    const intensity = gpu.bf16FlopsPerSecond / gpu.bandwidthBytesPerSecond;
    assert.ok(intensity > 50 && intensity < 500, `${name}: ${intensity}`);
    // All memory is read in well under a second, and not in a hundredth.
    const readSeconds = gpu.memoryBytes / gpu.bandwidthBytesPerSecond;
    assert.ok(readSeconds > 0.01 && readSeconds < 0.1, `${name}: ${readSeconds}`);
    if (gpu.fp8FlopsPerSecond !== null) {
      const gain = gpu.fp8FlopsPerSecond / gpu.bf16FlopsPerSecond;
      assert.ok(gain > 1.9 && gain < 2.1, `${name}: ${gain}`);
    }
    assert.match(gpu.title, /^NVIDIA /);
    assert.ok(gpu.linkBytesPerSecond < gpu.bandwidthBytesPerSecond);
  }
});

test("an entry is what its file says; one's own goes before ours of that name", async () => {
  const gpus = await loadHardware(MODELS);
  const merged = mergeHardware(gpus, OWN, "hardware.yaml");
  assert.equal(merged.size, gpus.size);
  assert.deepEqual(merged.get("h200"), gpus.get("h200"));
  assert.deepEqual(merged.get("h100"), {
    name: "h100",
    title: "NVIDIA H100 of ours",
    memoryBytes: 80_000 * 2 ** 20,
    bandwidthBytesPerSecond: 3.35e12,
    bf16FlopsPerSecond: 989.4e12,
    fp8FlopsPerSecond: null,
    linkBytesPerSecond: 4.5e11,
    watts: 700,
    rate: { perHour: "1.10", currency: "CAD", source: "bought in 2025 over four years" },
    source: "measured",
  });
  const added = mergeHardware(gpus, OWN.replace("name: h100", "name: mine"), "hardware.yaml");
  assert.equal(added.size, gpus.size + 1);
});

test("an installation's own file is read with ours; one that is not there is named", async () => {
  await using folder = await mkdtempDisposable(join(tmpdir(), "autocode-hardware-"));
  const path = join(folder.path, "mine.yaml");
  await assert.rejects(loadHardware(MODELS, path), {
    name: "CatalogError",
    message: `AUTOCODE_HARDWARE: ${path} cannot be read (ENOENT); name a file of hardware.yaml's form`,
  });
  await writeFile(path, OWN);
  assert.equal((await loadHardware(MODELS, path)).get("h100")?.rate.perHour, "1.10");
  await writeFile(path, "gpus: []");
  await assert.rejects(loadHardware(MODELS, path), {
    message: /mine\.yaml:1: gpus: must not have/,
  });
});

test("a wrong table is told by file, line and field", () => {
  const faults: [from: string, to: string, RegExp][] = [
    ["name: h100", "name: H 100", /^mine\.yaml:2: gpus\.0\.name: /],
    ["memory_mib: 80000", "memory_mib: 80 GB", /^mine\.yaml:4: gpus\.0\.memory_mib: /],
    ["watts: 700", "watts: 0", /:8: gpus\.0\.watts: /],
    ["    watts: 700\n", "", /:2: gpus\.0: missing watts$/],
    ['"1.10"', "1.10", /:9: gpus\.0\.rate\.per_hour: /],
    [
      "    source: measured\n",
      `    source: measured\n${OWN.slice(6)}`,
      /name: "h100" is there twice/,
    ],
  ];
  for (const [from, to, message] of faults) {
    const text = OWN.replace(from, to);
    assert.notEqual(text, OWN, from);
    assert.throws(() => parseHardware(text, "mine.yaml"), { name: "CatalogError", message });
  }
});
