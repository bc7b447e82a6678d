/**
 * The kinds of GPU that a plan can be made for: `hardware.yaml`, and what an installation adds to
 * it or says better, in a file of the same form.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Type } from "typebox";
import { GpuName } from "../orchestrator/contract/models.ts";
import { CurrencyCode } from "../orchestrator/contract/money.ts";
import { DecimalText } from "../orchestrator/contract/prices.ts";
import type { Gpu } from "./gpu.ts";
import { CatalogError, readYaml } from "./yaml-file.ts";

const Source = Type.String({ minLength: 1, maxLength: 500 });
const closed = { additionalProperties: false };

const HardwareFile = Type.Object(
  {
    gpus: Type.Array(
      Type.Object(
        {
          name: GpuName,
          title: Type.String({ minLength: 1, maxLength: 200 }),
          memory_mib: Type.Integer({ minimum: 1024, maximum: 16_777_216 }),
          bandwidth_gb_per_second: Type.Number({ exclusiveMinimum: 0, maximum: 1_000_000 }),
          bf16_tflops: Type.Number({ exclusiveMinimum: 0, maximum: 1_000_000 }),
          fp8_tflops: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 1_000_000 })),
          link_gb_per_second: Type.Number({ exclusiveMinimum: 0, maximum: 1_000_000 }),
          watts: Type.Integer({ minimum: 1, maximum: 100_000 }),
          rate: Type.Object(
            { per_hour: DecimalText, currency: CurrencyCode, source: Source },
            closed,
          ),
          source: Source,
        },
        closed,
      ),
      { minItems: 1, maxItems: 500 },
    ),
  },
  closed,
);

/**
 * Reads `folder/hardware.yaml`, and the installation's own file where it has one; the GPUs by
 * their names.
 *
 * @throws CatalogError naming file, line and field, or the own file that cannot be read.
 */
export async function loadHardware(
  folder: string,
  ownFile: string | null = null,
): Promise<ReadonlyMap<string, Gpu>> {
  const text = await readFile(join(folder, "hardware.yaml"), "utf8");
  const gpus = parseHardware(text, "hardware.yaml");
  if (ownFile === null) return gpus;
  const own = await readFile(ownFile, "utf8").catch((cause: NodeJS.ErrnoException) => {
    const detail = `${ownFile} cannot be read (${cause.code}); name a file of hardware.yaml's form`;
    throw new CatalogError(`AUTOCODE_HARDWARE: ${detail}`, { cause });
  });
  return mergeHardware(gpus, own, ownFile);
}

/** @throws CatalogError naming file, line and field. */
export function parseHardware(text: string, fileName: string): ReadonlyMap<string, Gpu> {
  const { value, fault } = readYaml(text, fileName, HardwareFile);
  const gpus = new Map<string, Gpu>();
  for (const [index, gpu] of value.gpus.entries()) {
    if (gpus.has(gpu.name)) throw fault(["gpus", index, "name"], `"${gpu.name}" is there twice`);
    gpus.set(gpu.name, {
      name: gpu.name,
      title: gpu.title,
      memoryBytes: gpu.memory_mib * 2 ** 20,
      bandwidthBytesPerSecond: gpu.bandwidth_gb_per_second * 1e9,
      bf16FlopsPerSecond: gpu.bf16_tflops * 1e12,
      fp8FlopsPerSecond: gpu.fp8_tflops === undefined ? null : gpu.fp8_tflops * 1e12,
      linkBytesPerSecond: gpu.link_gb_per_second * 1e9,
      watts: gpu.watts,
      rate: {
        perHour: gpu.rate.per_hour,
        currency: gpu.rate.currency,
        source: gpu.rate.source,
      },
      source: gpu.source,
    });
  }
  return gpus;
}

/**
 * `gpus` with those of an installation's own file, which go before ours of the same name.
 *
 * @throws CatalogError naming file, line and field.
 */
export function mergeHardware(
  gpus: ReadonlyMap<string, Gpu>,
  text: string,
  fileName: string,
): ReadonlyMap<string, Gpu> {
  return new Map([...gpus, ...parseHardware(text, fileName)]);
}
