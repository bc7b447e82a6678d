/**
 * An allocation's session at the egress proxy, made when it enrols: its password, its canary, and
 * what its worker is told of them.
 *
 * Invariant: the password is nowhere but in the answer; a new enrolment ends the one before.
 */
import { createHash } from "node:crypto";
import { sql } from "drizzle-orm";
import type { ProjectFile } from "../contract/projects.ts";
import type { EgressSpec } from "../contract/worker.ts";
import type { Database } from "../db/database.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import type { AllocationId } from "../runtime/ids.ts";
import type { Random } from "../runtime/random.ts";
import type { TrialRow } from "./rows.ts";

/** Where workers reach the egress proxy, and its certificates' authority; null: none runs. */
export type EgressDoor = () => { url: string; authorityPem: string } | null;

export interface EgressIssuer {
  db: Pick<Database, "sql">;
  clock: Clock;
  random: Random;
  egress: EgressDoor;
}

const PASSWORD_BYTES = 32;
const KEY_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const KEY_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/**
 * The allocation's way out, with a session of its own where it is proxied. Idempotent: a second
 * call for an allocation replaces its password and its canary.
 */
export async function issueEgressSession(
  { db, clock, random, egress }: EgressIssuer,
  project: { config: Pick<ProjectFile, "egress"> },
  trial: Pick<TrialRow, "id" | "project_id" | "replay_of">,
  allocationId: AllocationId,
): Promise<EgressSpec> {
  const { egress: policy = "deny" } = project.config;
  const door = egress();
  // A replay is answered from its record alone, whatever its project may reach.
  const isReplay = trial.replay_of !== null;
  if (policy === "open" && !isReplay) return { kind: "open" };
  if (door === null) return { kind: "closed" };
  const password = Buffer.from(random.bytes(PASSWORD_BYTES)).toString("base64url");
  const canary = {
    id: `AKIA${draw(random, KEY_ID_LETTERS, 16)}`,
    key: draw(random, KEY_LETTERS, 40),
  };
  await db.sql.execute(sql`
    insert into egress_session
      (allocation_id, trial_id, project_id, password_sha256, canary, created_at)
    values (${allocationId}, ${trial.id}, ${trial.project_id},
      ${createHash("sha256").update(password).digest()}, ${`${canary.id}:${canary.key}`},
      ${rfc3339(clock.now())})
    on conflict (allocation_id) do update
      set password_sha256 = excluded.password_sha256, canary = excluded.canary`);
  const own = policy === "deny" || policy === "open" ? {} : policy;
  return {
    kind: "proxied",
    proxy_url: door.url,
    username: allocationId,
    password,
    authority_pem: door.authorityPem,
    is_isolation_required: own.require_isolation ?? false,
    is_llm_proxied: (own.llm_through_proxy ?? false) && !isReplay,
    environment: {
      // Read by no program that we know, so that nothing but a leak ever uses them.
      DEPLOY_AWS_ACCESS_KEY_ID: canary.id,
      DEPLOY_AWS_SECRET_ACCESS_KEY: canary.key,
      ...own.environment,
    },
  };
}

function draw(random: Random, letters: string, length: number): string {
  return Array.from({ length }, () => letters[random.below(letters.length)]).join("");
}
