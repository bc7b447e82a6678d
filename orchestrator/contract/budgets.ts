/** Budgets on the wire: top-ups and statements. */
import { type Static, Type } from "typebox";
import { Balance, CurrencyCode, NanosText } from "./money.ts";

/** `POST …/topup`, with an `Idempotency-Key` header: the money moves once. */
export type TopUp = Static<typeof TopUp>;
export const TopUp = Type.Object(
  { amount_nanos: NanosText, currency: CurrencyCode },
  { additionalProperties: false },
);

export type Budget = Static<typeof Budget>;
export const Budget = Type.Object(
  {
    owner: Type.String({ examples: ["project/project_01j…", "trial/trial_01j…"] }),
    balance: Balance,
  },
  { additionalProperties: false },
);

export type StatementLine = Static<typeof StatementLine>;
export const StatementLine = Type.Object(
  {
    transfer_id: Type.String(),
    kind: Type.String({ description: "direct, pending, post or void" }),
    reason: Type.String(),
    debit: Type.String(),
    credit: Type.String(),
    amount_nanos: NanosText,
    at: Type.String({ format: "date-time" }),
  },
  { additionalProperties: false },
);

export type Statement = Static<typeof Statement>;
export const Statement = Type.Object(
  {
    owner: Type.String(),
    balance: Balance,
    lines: Type.Array(StatementLine),
    next_cursor: Type.Union([Type.String(), Type.Null()]),
  },
  { additionalProperties: false },
);

export type BudgetList = Static<typeof BudgetList>;
export const BudgetList = Type.Object(
  { budgets: Type.Array(Budget) },
  { additionalProperties: false },
);
