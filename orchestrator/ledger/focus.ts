/**
 * Spend for other people's tools: a line a call, in the columns of FOCUS 1.2 (the FinOps Open Cost
 * and Usage Specification) and `x_` columns of our own. Text that a spreadsheet would run as a
 * formula is defused: models and providers name themselves.
 */
import { NANOS_PER_UNIT, type Nanos } from "../money.ts";
import { type EpochMs, rfc3339 } from "../runtime/clock.ts";

export interface SpendRow {
  callId: string;
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
  costNanos: Nanos;
  inputTokens: number;
  cacheReadTokens: number;
  cacheWriteTokens: number;
  outputTokens: number;
  reasoningTokens: number;
  isEstimated: boolean;
  startedAtMs: EpochMs;
  endedAtMs: EpochMs;
}

type Cell = (row: SpendRow) => string;

const cost: Cell = ({ costNanos }) => units(costNanos);
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
  ["ChargeClass", () => ""],
  ["ChargeDescription", ({ model, side }) => `One call of ${model} as the ${side} model`],
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
  ["ResourceId", ({ callId }) => callId],
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
  ["x_OutputTokens", ({ outputTokens }) => String(outputTokens)],
  ["x_ReasoningTokens", ({ reasoningTokens }) => String(reasoningTokens)],
  ["x_IsEstimated", ({ isEstimated }) => String(isEstimated)],
  ["x_CostNanos", ({ costNanos }) => String(costNanos)],
];

/** RFC 4180 text: a header, then a line for each row, CRLF after each. */
export function focusCsv(rows: readonly SpendRow[]): string {
  const lines = [
    COLUMNS.map(([name]) => name),
    ...rows.map((row) => COLUMNS.map(([, cell]) => cell(row))),
  ];
  return lines.map((cells) => `${cells.map(field).join(",")}\r\n`).join("");
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

/** An amount in units of the currency, exactly. */
function units(nanos: Nanos): string {
  const decimals = String(nanos % NANOS_PER_UNIT).padStart(9, "0");
  return `${nanos / NANOS_PER_UNIT}.${decimals}`;
}

/** The start of the month (UTC) of `atMs`, `monthsLater` after it. */
function monthStart(atMs: EpochMs, monthsLater: number): string {
  const at = new Date(atMs);
  return rfc3339(Date.UTC(at.getUTCFullYear(), at.getUTCMonth() + monthsLater));
}
