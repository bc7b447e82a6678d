/**
 * Spend for other people's tools, in the columns of FOCUS 1.2 (the FinOps Open Cost and Usage
 * Specification) and `x_` columns of our own: a line a call, a line for each swap of models on own
 * GPUs, for each reservation that was charged in full because its call never ended, and for each
 * charge taken back. Text that a
 * spreadsheet would run as a formula is defused: models and providers name themselves.
 */
import { NANOS_PER_UNIT, type Nanos } from "../money.ts";
import { type EpochMs, rfc3339 } from "../runtime/clock.ts";

export interface SpendRow {
  kind: "call" | "swap" | "expired" | "correction";
  /** The call's id, or the transfer's. */
  id: string;
  trialId: string;
  projectId: string;
  projectName: string;
  currency: string;
  agent: string;
  pair: string;
  side: string;
  provider: string;
  model: string;
  priceVersion: string;
  /** Below 0 for a correction. */
  costNanos: Nanos;
  inputTokens: number;
  cacheReadTokens: number;
  cacheWriteTokens: number;
  /** Part of `cacheWriteTokens`: what stays in the cache for longer, at another price. */
  longCacheWriteTokens: number;
  outputTokens: number;
  reasoningTokens: number;
  /** GPU time, times GPUs, of an own model; null where its price does not go by it. */
  gpuMs: number | null;
  isEstimated: boolean;
  note: string | null;
  startedAtMs: EpochMs;
  endedAtMs: EpochMs;
}

type Cell = (row: SpendRow) => string;

const cost: Cell = ({ costNanos }) => units(costNanos);
const exactCost: Cell = ({ costNanos }) => String(costNanos);
/** Digits of our own, that may begin with a minus. */
const NUMBERS: ReadonlySet<Cell> = new Set([cost, exactCost]);
const tokens = (row: SpendRow) =>
  row.inputTokens + row.cacheReadTokens + row.cacheWriteTokens + row.outputTokens;

const COLUMNS: readonly (readonly [string, Cell])[] = [
  ["BilledCost", cost],
  ["BillingAccountId", () => "autocode"],
  ["BillingAccountName", () => "autocode"],
  ["BillingCurrency", ({ currency }) => currency],
  ["BillingPeriodStart", ({ startedAtMs }) => monthStart(startedAtMs, 0)],
  ["BillingPeriodEnd", ({ startedAtMs }) => monthStart(startedAtMs, 1)],
  ["ChargeCategory", () => "Usage"],
  ["ChargeClass", ({ kind }) => (kind === "correction" ? "Correction" : "")],
  ["ChargeDescription", description],
  ["ChargeFrequency", () => "Usage-Based"],
  ["ChargePeriodStart", ({ startedAtMs }) => rfc3339(startedAtMs)],
  ["ChargePeriodEnd", ({ endedAtMs }) => rfc3339(endedAtMs)],
  ["ConsumedQuantity", (row) => String(tokens(row))],
  ["ConsumedUnit", () => "Tokens"],
  ["ContractedCost", cost],
  ["EffectiveCost", cost],
  ["InvoiceIssuerName", ({ provider }) => provider],
  ["ListCost", cost],
  ["PricingCategory", () => "Standard"],
  ["PricingQuantity", (row) => String(tokens(row))],
  ["PricingUnit", () => "Tokens"],
  ["ProviderName", ({ provider }) => provider],
  ["PublisherName", ({ provider }) => provider],
  ["ResourceId", ({ id }) => id],
  ["ResourceType", () => "Model call"],
  ["ServiceCategory", () => "AI and Machine Learning"],
  ["ServiceName", ({ model }) => model],
  ["SkuId", ({ model }) => model],
  ["SkuPriceId", ({ priceVersion }) => priceVersion],
  ["SubAccountId", ({ projectId }) => projectId],
  ["SubAccountName", ({ projectName }) => projectName],
  ["x_TrialId", ({ trialId }) => trialId],
  ["x_Agent", ({ agent }) => agent],
  ["x_ModelPair", ({ pair }) => pair],
  ["x_ModelSide", ({ side }) => side],
  ["x_InputTokens", ({ inputTokens }) => String(inputTokens)],
  ["x_CacheReadTokens", ({ cacheReadTokens }) => String(cacheReadTokens)],
  ["x_CacheWriteTokens", ({ cacheWriteTokens }) => String(cacheWriteTokens)],
  ["x_LongCacheWriteTokens", ({ longCacheWriteTokens }) => String(longCacheWriteTokens)],
  ["x_OutputTokens", ({ outputTokens }) => String(outputTokens)],
  ["x_ReasoningTokens", ({ reasoningTokens }) => String(reasoningTokens)],
  ["x_GpuMs", ({ gpuMs }) => (gpuMs === null ? "" : String(gpuMs))],
  ["x_IsEstimated", ({ isEstimated }) => String(isEstimated)],
  ["x_CostNanos", exactCost],
  ["x_Note", ({ note }) => note ?? ""],
];

/** RFC 4180 text: a header, then a line for each row, CRLF after each. */
export function focusCsv(rows: readonly SpendRow[]): string {
  const lines = [
    COLUMNS.map(([name]) => name),
    ...rows.map((row) =>
      COLUMNS.map(([, cell]) => (NUMBERS.has(cell) ? cell(row) : field(cell(row)))),
    ),
  ];
  return lines.map((cells) => `${cells.join(",")}\r\n`).join("");
}

/** The same columns, an array of one object a row. */
export function focusJson(rows: readonly SpendRow[]): string {
  const records = rows.map((row) =>
    Object.fromEntries(COLUMNS.map(([name, cell]) => [name, cell(row)])),
  );
  return JSON.stringify(records, null, 2);
}

/** A field that is data wherever it is opened. */
function field(text: string): string {
  const defused = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(defused) ? `"${defused.replaceAll('"', '""')}"` : defused;
}

function description({ kind, model, side }: SpendRow): string {
  switch (kind) {
    case "call":
      return `One call of ${model} as the ${side} model`;
    case "swap":
      return `Own GPUs given to ${model} because its trial waited for it`;
    case "expired":
      return "A reservation whose call never ended, charged in full";
    case "correction":
      return "A charge taken back";
  }
}

/** An amount in units of the currency, exactly. */
function units(nanos: Nanos): string {
  const absolute = nanos < 0n ? -nanos : nanos;
  const decimals = String(absolute % NANOS_PER_UNIT).padStart(9, "0");
  return `${nanos < 0n ? "-" : ""}${absolute / NANOS_PER_UNIT}.${decimals}`;
}

/** The start of the month (UTC) of `atMs`, `monthsLater` after it. */
function monthStart(atMs: EpochMs, monthsLater: number): string {
  const at = new Date(atMs);
  return rfc3339(Date.UTC(at.getUTCFullYear(), at.getUTCMonth() + monthsLater));
}
