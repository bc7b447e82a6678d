/** A kind of GPU, as `models/hardware.yaml` says; `hardware.ts` reads it. */
export interface Gpu {
  /** `h100`, `rtx-4090`. */
  readonly name: string;
  /** What the driver calls it (`nvidia-smi --query-gpu=name`): a machine's own are known by it. */
  readonly title: string;
  /** As cudaMemGetInfo reports the whole, which is less than nvidia-smi and the box say. */
  readonly memoryBytes: number;
  readonly bandwidthBytesPerSecond: number;
  /** Dense, without sparsity. */
  readonly bf16FlopsPerSecond: number;
  /** Null where it has no fp8 units: weights are then widened as they are used. */
  readonly fp8FlopsPerSecond: number | null;
  /** Between GPUs of one machine, each way. */
  readonly linkBytesPerSecond: number;
  readonly watts: number;
  /** Decimal text, for an hour of one, rented; with where that is from. */
  readonly rate: { readonly perHour: string; readonly currency: string; readonly source: string };
  /** Where the figures are from. */
  readonly source: string;
}
