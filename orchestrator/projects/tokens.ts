/**
 * Token budgets: accounts of the unit TOK beside a project's money, for projects that ration
 * tokens. Amounts are whole tokens, not nano-units; owners begin with "tokens/".
 */
import type { ProjectFile } from "../contract/projects.ts";
import type { TokenGrant } from "../keys/keys.ts";
import type { Ledger } from "../ledger/ledger.ts";
import { TOKEN_UNIT } from "../money.ts";
import {
  type AccountId,
  derivedId,
  type Ids,
  type ProjectId,
  type TrialId,
} from "../runtime/ids.ts";

export interface TokenAccounts {
  funding: AccountId;
  budget: AccountId;
  spend: AccountId;
}

type Opener = { ledger: Pick<Ledger, "open" | "fund">; ids: Ids };

export async function openTokenAccounts(
  { ledger, ids }: Opener,
  projectId: ProjectId,
): Promise<TokenAccounts> {
  const open = (kind: "funding" | "budget" | "spend", owner: string) =>
    openTokens({ ledger, ids }, kind, owner);
  const [funding, budget, spend] = await Promise.all([
    open("funding", `organisation/${TOKEN_UNIT}`),
    open("budget", `tokens/project/${projectId}`),
    open("spend", `tokens/project/${projectId}`),
  ]);
  return { funding, budget, spend };
}

/**
 * What a trial's key may use of tokens, its own budget opened and funded once; null where the
 * project rations none.
 */
export async function grantTokens(
  opener: Opener,
  project: { id: ProjectId; config: ProjectFile },
  trialId: TrialId,
): Promise<TokenGrant | null> {
  const { tokens } = project.config.budget;
  if (tokens === undefined) return null;
  const accounts = await openTokenAccounts(opener, project.id);
  const budget = await openTokens(opener, "budget", `tokens/trial/${trialId}`);
  await opener.ledger.fund({
    id: derivedId("transfer", "tokens.limit", trialId),
    from: accounts.funding,
    to: budget,
    amountNanos: BigInt(tokens.per_trial),
    reason: "limit",
  });
  return { budget, within: [accounts.budget], spend: accounts.spend };
}

function openTokens(
  { ledger, ids }: Opener,
  kind: "funding" | "budget" | "spend",
  owner: string,
): Promise<AccountId> {
  const mustNotExceed = kind === "budget";
  const id = ids.next("account");
  return ledger.open({ id, kind, owner, currency: TOKEN_UNIT, mustNotExceed });
}
