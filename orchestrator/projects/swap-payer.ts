/** Who pays for a swap of models, beside the trial's own budget: those who pay for its calls. */
import { sql } from "drizzle-orm";
import type { Database } from "../db/database.ts";
import { rows } from "../db/rows.ts";
import type { AccountId, ProjectId, TrialId } from "../runtime/ids.ts";
import type { Days } from "./day.ts";
import { dayOf, type PostgresProjects } from "./postgres.ts";

export function createSwapPayer(
  db: Pick<Database, "sql">,
  projects: Pick<PostgresProjects, "findById" | "accounts">,
  days: Pick<Days, "dayAccount">,
) {
  return payer;

  /** `within`: the enclosing budgets, outermost first, and last the day's that it is now. */
  async function payer(
    trialId: TrialId,
  ): Promise<{ within: AccountId[]; spend: AccountId; currency: string }> {
    const [trial] = await rows<{ project_id: ProjectId }>(
      db.sql,
      sql`select project_id from trial where id = ${trialId}`,
    );
    if (trial === undefined) throw new Error(`${trialId} is gone`);
    const project = await projects.findById(trial.project_id);
    const { organisation, budget, spend } = await projects.accounts(project);
    const day = await days.dayAccount(dayOf(project));
    const within = [organisation, budget, ...(day === null ? [] : [day])];
    return { within, spend, currency: project.currency };
  }
}
