/** A kind of GPU, as `models/hardware.yaml` says; `hardware.ts` reads it. */
export interface Gpu {
  /** `h100`, `rtx-4090`. */
  readonly name: string;
  readonly title: string;
  /** As the driver reports it, which is less than the box says. */
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
