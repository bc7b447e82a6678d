/**
 * Services for tests of the API from its edge to its tables: trials, projects, budgets, the ledger,
 * the workers' sessions, access and kept answers are the real ones, on one database; what needs no
 * database is as in `api-services.ts`.
 */
import { createAccess } from "../../orchestrator/api/access-postgres.ts";
import { createIdempotency } from "../../orchestrator/api/idempotency.ts";
import { createApi } from "../../orchestrator/api/server.ts";
import type { Services } from "../../orchestrator/api/services.ts";
import { createBudgets } from "../../orchestrator/budgets/postgres.ts";
import { createIds } from "../../orchestrator/runtime/ids.ts";
import { systemRandom } from "../../orchestrator/runtime/random.ts";
import { openApiServices } from "./api-services.ts";
import { openTestJournal } from "./journal.ts";
import { createTestClock } from "./ledger.ts";
import { openTrialLife } from "./trial-life.ts";

export async function openRealApi() {
  const fixture = await openApiServices();
  const life = await openTrialLife({});
  const { world, projects, trials, sessions, ledger } = life;
  const { database } = world;
  const clock = createTestClock(world.clock.now());
  const ids = createIds(clock, systemRandom);
  const access = createAccess(database, clock, { ids, random: systemRandom });
  const { journal, ledgerExport } = openTestJournal({ database, clock });
  const budgets = createBudgets({ db: database, ledger, projects, clock });
  const token = await access.issueCliToken();
  return { database, clock, life, budgets, token, open, [Symbol.asyncDispose]: dispose };

  /** A server, as one of several orchestrators on the database: it shares nothing with another. */
  function open(more: Partial<Services> = {}) {
    const services: Services = {
      ...fixture.services,
      clock,
      access,
      budgets,
      projects,
      trials,
      workerSessions: sessions,
      idempotency: createIdempotency(database, clock),
      journal: { ...ledgerExport, status: journal.status },
      ...more,
    };
    return createApi(services, { version: "0.0.0" });
  }

  async function dispose(): Promise<void> {
    await life[Symbol.asyncDispose]();
    await fixture[Symbol.asyncDispose]();
  }
}
