/** What a call is reserved on: a trial's budget inside a day's and a project's. */
import type { Ledger } from "../../../orchestrator/ledger/ledger.ts";
import type { AccountId, Ids } from "../../../orchestrator/runtime/ids.ts";

export interface Path {
  within: [AccountId, AccountId];
  budget: AccountId;
  spend: AccountId;
}

export const HELD_NANOS = 1_000n;
export const COST_NANOS = 300n;

export async function openPath(ledger: Ledger, ids: Ids): Promise<Path> {
  const name = ids.next("log");
  const open = (kind: "funding" | "budget" | "spend", owner: string) =>
    ledger.open({
      id: ids.next("account"),
      kind,
      owner: `${name}/${owner}`,
      currency: "CAD",
      mustNotExceed: kind === "budget",
    });
  const funding = await open("funding", "all");
  const budgets: AccountId[] = [];
  for (const owner of ["project", "day", "trial"]) {
    const to = await open("budget", owner);
    const id = ids.next("transfer");
    await ledger.fund({ id, from: funding, to, amountNanos: 10n ** 17n, reason: "bench" });
    budgets.push(to);
  }
  const [project, day, budget] = budgets as [AccountId, AccountId, AccountId];
  return { within: [project, day], budget, spend: await open("spend", "project") };
}

/** Reserves and settles once. */
export async function pairOf(ledger: Ledger, ids: Ids, path: Path): Promise<void> {
  const pendingId = ids.next("transfer");
  const held = { id: pendingId, ...path, amountNanos: HELD_NANOS, timeoutMs: 60_000 };
  const reserved = await ledger.reserve(held);
  const settlement = { id: ids.next("transfer"), pendingId, amountNanos: COST_NANOS };
  const settled = await ledger.settle(settlement);
  if (reserved.outcome !== "reserved" || settled.outcome !== "settled") {
    throw new Error(`${reserved.outcome}, ${settled.outcome}`);
  }
}
