/** How far a pull is, how fast it goes and when it ends. */
import type { WeightProgress } from "../contract/weights.ts";

export interface Meter {
  /** Begins a part of the work with its own count; `total` is 0 where it is not known. */
  start(step: WeightProgress["step"], detail: string, total: number): void;
  /** Bytes more; negative where some were of no use. */
  add(bytes: number): void;
  /** A line beside the count. */
  say(step: WeightProgress["step"], detail: string): void;
}

const WINDOW_MS = 10_000;
const EVERY_MS = 250;

/** @param nowMs never set back. */
export function createMeter(
  names: { model: string; quantisation: string },
  onProgress: (progress: WeightProgress) => void,
  nowMs: () => number,
): Meter {
  let step: WeightProgress["step"] = "looking";
  let detail = "";
  let bytes = 0;
  let total = 0;
  let toldAtMs = Number.NEGATIVE_INFINITY;
  /** Of the last seconds: when, and how many bytes there were. */
  let marks: { atMs: number; bytes: number }[] = [];
  return { start, add, say };

  function start(next: WeightProgress["step"], words: string, bytesTotal: number): void {
    [step, detail, bytes, total] = [next, words, 0, bytesTotal];
    marks = [{ atMs: nowMs(), bytes: 0 }];
    tell();
  }

  function add(more: number): void {
    bytes = Math.max(0, bytes + more);
    const now = nowMs();
    if (now - toldAtMs < EVERY_MS && bytes < total) return;
    marks.push({ atMs: now, bytes });
    marks = marks.filter(({ atMs }, index) => index === marks.length - 1 || now - atMs < WINDOW_MS);
    tell();
  }

  function say(once: WeightProgress["step"], words: string): void {
    onProgress({ ...names, step: once, detail: words, ...figures() });
  }

  function tell(): void {
    toldAtMs = nowMs();
    onProgress({ ...names, step, detail, ...figures() });
  }

  function figures() {
    const [first] = marks;
    const last = marks.at(-1);
    const passedMs = first === undefined || last === undefined ? 0 : last.atMs - first.atMs;
    const moved = first === undefined || last === undefined ? 0 : last.bytes - first.bytes;
    const rate = passedMs > 0 && moved > 0 ? Math.round((moved * 1_000) / passedMs) : null;
    const left = Math.max(0, total - bytes);
    return {
      bytes,
      bytes_total: total,
      bytes_per_second: rate,
      eta_ms: rate === null || rate === 0 ? null : Math.round((left * 1_000) / rate),
    };
  }
}
