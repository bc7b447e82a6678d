/** Goal: applying a project's file again, or twice at once, funds and makes it exactly once. */
import assert from "node:assert/strict";
import { readdir, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { auditLedger } from "../../support/audit.ts";
import { openTrialWorld, writeTaskFolder } from "../../support/trial-world.ts";

test("projects", async (t) => {
  await using opened = await openTrialWorld();
  const { projects } = opened.life;
  const folder = await writeTaskFolder();
  t.after(() => rm(folder, { recursive: true, force: true }));
  const apply = (name: string, total: string, rest = "") =>
    projects.apply({
      file_name: "autocode.yaml",
      folder,
      file_text: `project: ${name}\ncurrency: CAD\nbudget: { total: ${total}, per_trial: 1 }\n${rest}`,
    });
  const funded = async (name: string) => (await projects.get(name)).balance.funded_nanos;

  await t.test("twice is once; a raised total adds the difference", async () => {
    await apply("a", "10", "tasks: [task]\n");
    await apply("a", "10", "tasks: [task]\n");
    assert.equal(await funded("a"), "10000000000");
    assert.deepEqual((await projects.get("a")).tasks, ["task"]);
    await apply("a", "12.5");
    assert.equal(await funded("a"), "12500000000");
    await assert.rejects(apply("a", "12"), /autocode\.yaml: budget\.total: must not be less/);
    assert.equal(await funded("a"), "12500000000");
  });

  await t.test("two that raise it at once never add up", async () => {
    await apply("b", "1");
    for (let round = 1; round <= 4; round++) {
      const raised = [`${round * 10}`, `${round * 10 + 5}`];
      await Promise.allSettled(raised.map((total) => apply("b", total)));
      await apply("b", raised[1] ?? "");
      assert.equal(await funded("b"), String((round * 10 + 5) * 1_000_000_000));
    }
  });

  await t.test("two first ones at once make one project, funded once", async () => {
    await Promise.all([apply("c", "3"), apply("c", "3")]);
    assert.equal(await funded("c"), "3000000000");
  });

  await t.test(
    "more at once than there are connections: none waits for one of another",
    async () => {
      await apply("e", "5");
      await Promise.all(Array.from({ length: 14 }, () => apply("e", "6")));
      assert.equal(await funded("e"), "6000000000");
    },
  );

  await t.test("a broken task folder leaves nothing", async () => {
    const before = await readdir(join(opened.world.home, "projects"));
    await symlink("/etc/passwd", join(folder, "task/tests/link"));
    await assert.rejects(apply("d", "1", "tasks: [task]\n"), /tests\/link is neither a file/);
    await assert.rejects(projects.get("d"), { code: "not_found" });
    assert.deepEqual(await readdir(join(opened.world.home, "projects")), before);
    await assert.rejects(apply("d", "1", "tasks: [no-such]\n"), /task\.toml is missing/);
    await assert.rejects(apply("d", "1", "agents: [nobody]\n"), /agents: unknown agent "nobody"/);
    await assert.rejects(
      apply("d", "1", "egress: { agents: { nobody: {} } }\n"),
      /egress\.agents: unknown agent "nobody"/,
    );
    await assert.rejects(apply("d", "1", "pairs: [none]\n"), /pairs: unknown pair "none"/);
    await assert.rejects(projects.get("d"), { code: "not_found" });
  });

  await auditLedger(opened.world.database);
});
