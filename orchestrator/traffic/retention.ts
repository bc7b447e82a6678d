/**
 * What retention takes away, as a background task: each class of fields after its project's days,
 * headers and bodies beyond its bytes, and nothing at all of a project under a legal hold.
 *
 * Idempotent and bounded: an activation does a piece of work, and the next one goes on from there.
 * A project that fails is told and hinders no other.
 */
import { sql } from "drizzle-orm";
import type { Retention } from "../contract/flows.ts";
import type { Database } from "../db/database.ts";
import { rows } from "../db/rows.ts";
import type { BackgroundTask } from "../runtime/background.ts";
import type { Clock, EpochMs } from "../runtime/clock.ts";
import type { ProjectId } from "../runtime/ids.ts";
import type { Log } from "../runtime/log.ts";
import type { FieldClass, Traffic } from "./traffic.ts";

const DAY_MS = 86_400_000;
const CLASSES = ["body", "headers", "meta"] as const satisfies readonly FieldClass[];

/** Of a project whose file says nothing, and of flows of nobody. */
export const RETENTION_DEFAULTS = { meta_days: 90, headers_days: 30, body_days: 7 } as const;

export interface TrafficRetentionDeps {
  db: Pick<Database, "sql">;
  traffic: Pick<Traffic, "expire" | "boundary">;
  clock: Clock;
  log: Log;
}

export interface TrafficRetention extends BackgroundTask {
  /** How many records lost something, by class. */
  activate(): Promise<Record<FieldClass, number>>;
}

interface Owner {
  /** Null: nobody. */
  projectId: ProjectId | null;
  retention: Retention;
}

export function createTrafficRetention(
  { db, traffic, clock, log }: TrafficRetentionDeps,
  { periodMs }: { periodMs: number },
): TrafficRetention {
  return { name: "traffic_retention", periodMs, activate };

  async function activate(): Promise<Record<FieldClass, number>> {
    const owners: Owner[] = [{ projectId: null, retention: {} }, ...(await readProjects(db))];
    const now = clock.now();
    const dropped = { meta: 0, headers: 0, body: 0 };
    for (const what of CLASSES) {
      const befores = owners.map(({ retention }) => beforeOf(retention, what, now));
      // Days that nobody keeps any more go whole, which is cheap: projects' own come after.
      if (!owners.some(({ retention }) => retention.is_held === true)) {
        dropped[what] += await traffic.expire("everyone", what, Math.min(...befores));
      }
    }
    const faults: unknown[] = [];
    for (const owner of owners) {
      if (owner.retention.is_held === true) continue;
      try {
        const beyond = await beyondBytes(owner);
        for (const what of CLASSES) {
          const before = beforeOf(owner.retention, what, now);
          const since = what === "meta" ? before : Math.max(before, beyond ?? before);
          dropped[what] += await traffic.expire(owner.projectId, what, since);
        }
      } catch (error) {
        log.warn({ err: error, project_id: owner.projectId }, "retention failed for a project");
        faults.push(error);
      }
    }
    if (faults.length > 0) throw faults[0];
    return dropped;
  }

  /** Asked once: of headers and bodies together the oldest go first. */
  async function beyondBytes({ projectId, retention }: Owner): Promise<EpochMs | null> {
    const { bytes_max: bytesMax } = retention;
    if (bytesMax === undefined || projectId === null) return null;
    return traffic.boundary(projectId, bytesMax);
  }
}

/**
 * The time before which a class of a project's fields is past its retention. Headers and bodies
 * never stay longer than the meta that they belong to.
 */
export function beforeOf(retention: Retention, what: FieldClass, now: EpochMs): EpochMs {
  const given = { ...RETENTION_DEFAULTS, ...retention };
  const days = Math.min(given[`${what}_days`], given.meta_days);
  return now - days * DAY_MS;
}

async function readProjects(db: Pick<Database, "sql">): Promise<Owner[]> {
  const found = await rows<{ id: ProjectId; retention: Retention | null }>(
    db.sql,
    sql`select id, config -> 'retention' as retention from project order by id`,
  );
  return found.map(({ id, retention }) => ({ projectId: id, retention: retention ?? {} }));
}
