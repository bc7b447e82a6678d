/** Budget events as people read them: of a project with its days and trials, or of one trial. */
import { sql } from "drizzle-orm";
import type { BudgetEvent, BudgetEventList } from "../contract/budgets.ts";
import type { Sql } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import { Problem } from "../problem.ts";
import { rfc3339 } from "../runtime/clock.ts";
import type { ProjectId, TrialId } from "../runtime/ids.ts";
import type { Page } from "./budgets.ts";
import { scopeOf } from "./levels.ts";

type EventRow = {
  seq: string;
  owner: string;
  currency: string;
  kind: BudgetEvent["kind"];
  percent: number | null;
  funded_nanos: string;
  spent_nanos: string;
  at: string;
};

/** Newest first. @throws Problem `invalid_request` for a cursor that no page ended with. */
export async function readEvents(
  db: Sql,
  of: { projectId: ProjectId; trialId: TrialId | null },
  { limit, before }: Page,
): Promise<BudgetEventList> {
  if (before !== undefined && !/^[1-9]\d{0,17}$/.test(before)) {
    throw new Problem("invalid_request", "querystring.before: must be a page's next_cursor");
  }
  const older = before === undefined ? sql`true` : sql`budget_event.seq < ${before}::bigint`;
  const found = await rows<EventRow>(
    db,
    sql`select budget_event.seq, owner, currency, budget_event.kind, percent, funded_nanos,
        spent_nanos, at
      from budget_event join account on account.id = budget_event.account_id
      where ${ownedBy(of)} and ${older}
      order by budget_event.seq desc limit ${limit}`,
  );
  return {
    events: found.map((row) => ({
      seq: Number(row.seq),
      scope: scopeOf(row.owner),
      owner: row.owner,
      kind: row.kind,
      percent: row.percent,
      currency: row.currency,
      funded_nanos: row.funded_nanos,
      spent_nanos: row.spent_nanos,
      at: rfc3339(readTime(row.at)),
    })),
    next_cursor: found.length < limit ? null : (found.at(-1)?.seq ?? null),
  };
}

function ownedBy({ projectId, trialId }: { projectId: ProjectId; trialId: TrialId | null }) {
  if (trialId !== null) return sql`owner in (${`trial/${trialId}`}, ${`tokens/trial/${trialId}`})`;
  const days = [`day/${projectId}/`, `tokens/day/${projectId}/`];
  return sql`(
    owner in (${`project/${projectId}`}, ${`tokens/project/${projectId}`})
    or starts_with(owner, ${days[0]}) or starts_with(owner, ${days[1]})
    or exists (
      select from trial where trial.project_id = ${projectId}
        and owner in ('trial/' || trial.id, 'tokens/trial/' || trial.id)
    )
  )`;
}
