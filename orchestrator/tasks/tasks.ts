/**
 * Tasks: what a trial is asked to do, frozen on import (repository bundle, hidden tests, rules).
 * Importing the same content again finds the same task.
 */
import { createHash } from "node:crypto";
import { rename, rm } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { sql } from "drizzle-orm";
import type { Task } from "../contract/projects.ts";
import type { VerifySpec } from "../contract/worker.ts";
import type { Requirements } from "../contract/workers.ts";
import type { Database } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import { Problem } from "../problem.ts";
import type { Layout } from "../projects/layout.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import type { Ids, ProjectId, TaskId } from "../runtime/ids.ts";
import { bundleEnvironment, bundleRepository, openSnapshotFolder, packTests } from "./snapshot.ts";
import { readTaskFolder } from "./task-folder.ts";

/** A type, not an interface, as `rows` asks. */
export type TaskRow = {
  id: TaskId;
  project_id: ProjectId;
  name: string;
  instruction: string;
  base_commit: string;
  test: VerifySpec["test"];
  has_hidden_tests: boolean;
  agent_wall_ms: string;
  verify_wall_ms: string;
  requirements: Requirements;
  source: string;
  created_at: string;
};

export interface InlineTask {
  path: string;
  instruction: string;
  test_command: string;
}

export interface ImportedTask {
  row: TaskRow;
  /** What a person should know: uncommitted changes left out, Dockerfile lines not followed. */
  warnings: string[];
}

type Draft = Omit<TaskRow, "id" | "project_id" | "created_at"> & {
  content: string;
  warnings: string[];
};

const INLINE_WALL_MS = 30 * 60_000;
const INLINE_VERIFY_WALL_MS = 10 * 60_000;

export type Tasks = ReturnType<typeof createTasks>;

export function createTasks(db: Database, layout: Layout, clock: Clock, ids: Ids) {
  return {
    importFolder,
    importInline,
    find: (projectId: ProjectId, name: string) => findNewest(db, projectId, name),
    list: (projectId: ProjectId) => listNewest(db, projectId),
    get: (id: TaskId) => getTask(db, id),
    forget,
  };

  /** Takes back all tasks of a project that is not to be, with their files. */
  async function forget(projectId: ProjectId): Promise<void> {
    await db.sql.execute(sql`delete from task where project_id = ${projectId}`);
    await rm(layout.project(projectId).root, { recursive: true, force: true });
  }

  /** @throws Problem `invalid_request`, naming file and fix; nothing is kept then. */
  async function importFolder(projectId: ProjectId, folder: string): Promise<ImportedTask> {
    const read = await readTaskFolder(folder);
    return freeze(projectId, async (scratch) => {
      const bundle = join(scratch, "source.bundle");
      const { baseCommit } = await bundleEnvironment(read.environmentDir, bundle);
      const tests = await packTests(read.testsDir, join(scratch, "tests.tar"));
      return {
        name: read.name,
        instruction: read.instruction,
        base_commit: baseCommit,
        test: { kind: "script", path: "test.sh" },
        has_hidden_tests: true,
        agent_wall_ms: String(read.agentWallMs),
        verify_wall_ms: String(read.verifyWallMs),
        requirements: read.requirements,
        source: resolve(folder),
        content: tests.sha256,
        warnings: read.warnings,
      };
    });
  }

  /** A user's own repository, at its HEAD. @throws Problem `invalid_request`. */
  async function importInline(projectId: ProjectId, task: InlineTask): Promise<ImportedTask> {
    for (const field of ["path", "instruction", "test_command"] as const) {
      if (!task[field].includes("\0")) continue;
      throw new Problem("invalid_request", `${field}: holds a NUL character; take it out`);
    }
    return freeze(projectId, async (scratch) => {
      const bundle = join(scratch, "source.bundle");
      const { baseCommit, isDirty } = await bundleRepository(task.path, bundle);
      const stem = basename(resolve(task.path))
        .toLowerCase()
        .replaceAll(/[^a-z0-9._-]/g, "-");
      const digest = sha256(task.instruction, task.test_command).slice(0, 8);
      return {
        name: `${stem.replace(/^[^a-z0-9]+/, "").slice(0, 50) || "repository"}-${digest}`,
        instruction: task.instruction,
        base_commit: baseCommit,
        test: { kind: "command", command: task.test_command },
        has_hidden_tests: false,
        agent_wall_ms: String(INLINE_WALL_MS),
        verify_wall_ms: String(INLINE_VERIFY_WALL_MS),
        requirements: {},
        source: resolve(task.path),
        content: "",
        warnings: isDirty ? ["uncommitted changes are left out: the trial starts from HEAD"] : [],
      };
    });
  }

  /** Files first, then the row that makes them count; a crash leaves an unnamed folder at most. */
  async function freeze(
    projectId: ProjectId,
    make: (scratch: string) => Promise<Draft>,
  ): Promise<ImportedTask> {
    const scratch = await openSnapshotFolder(layout.project(projectId).tasks);
    try {
      const { content, warnings, ...draft } = await make(scratch);
      const { base_commit, instruction, test, agent_wall_ms, verify_wall_ms, requirements } = draft;
      // Only where there are any: a task that asks for nothing stays the same task.
      const asked = Object.keys(requirements).length === 0 ? [] : [requirements];
      const rules = JSON.stringify([test, agent_wall_ms, verify_wall_ms, ...asked]);
      const digest = sha256(base_commit, instruction, rules, content);
      const known = await findContent(db, projectId, draft.name, digest);
      if (known !== null) return { row: known, warnings };

      const id = ids.next("task");
      await rename(scratch, layout.task(projectId, id).root);
      await db.sql.execute(sql`
        insert into task (id, project_id, name, content_sha256, instruction, base_commit, test,
          has_hidden_tests, agent_wall_ms, verify_wall_ms, requirements, source, created_at)
        values (${id}, ${projectId}, ${draft.name}, ${digest}, ${instruction}, ${base_commit},
          ${JSON.stringify(test)}::jsonb, ${draft.has_hidden_tests}, ${agent_wall_ms},
          ${verify_wall_ms}, ${JSON.stringify(requirements)}::jsonb, ${draft.source},
          ${rfc3339(clock.now())})
        on conflict on constraint task_content_once do nothing`);
      const row = await findContent(db, projectId, draft.name, digest);
      if (row === null) throw new Error("importing a task left no row");
      if (row.id !== id) await rm(layout.task(projectId, id).root, { recursive: true });
      return { row, warnings };
    } finally {
      await rm(scratch, { recursive: true, force: true });
    }
  }
}

async function findContent(db: Database, projectId: ProjectId, name: string, digest: string) {
  const [found] = await rows<TaskRow>(
    db.sql,
    sql`select * from task where project_id = ${projectId} and name = ${name}
      and content_sha256 = ${digest}`,
  );
  return found ?? null;
}

/** The newest task of this name. */
async function findNewest(db: Database, projectId: ProjectId, name: string) {
  const [found] = await rows<TaskRow>(
    db.sql,
    sql`select * from task where project_id = ${projectId} and name = ${name}
      order by created_at desc, id desc limit 1`,
  );
  return found ?? null;
}

async function listNewest(db: Database, projectId: ProjectId): Promise<TaskRow[]> {
  return rows<TaskRow>(
    db.sql,
    sql`select distinct on (name) * from task where project_id = ${projectId}
      order by name, created_at desc, id desc`,
  );
}

async function getTask(db: Database, id: TaskId): Promise<TaskRow> {
  const [found] = await rows<TaskRow>(db.sql, sql`select * from task where id = ${id}`);
  if (found === undefined) throw new Problem("not_found", `There is no task ${id}`);
  return found;
}

/** A task as the wire has it. */
export function toTask(row: TaskRow, project: string): Task {
  return {
    id: row.id,
    project,
    name: row.name,
    instruction: row.instruction,
    base_commit: row.base_commit,
    has_hidden_tests: row.has_hidden_tests,
    test: row.test.kind === "command" ? row.test.command : `tests/${row.test.path}`,
    source: row.source,
    created_at: rfc3339(readTime(row.created_at)),
  };
}

function sha256(...parts: string[]): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(`${Buffer.byteLength(part)}:`).update(part);
  return hash.digest("hex");
}
