/**
 * Goal: an enrolment token is good once, for its allocation, while it is the newest; nothing that
 * was tampered with, made elsewhere or overtaken gets in, and no trial is half-placed without one.
 *
 * Method: the real engine, sessions and database; time passes by the database's own clock. A signer
 * that refuses stands for sealed secrets; the real ones are in the tests of their adapters.
 */
import assert from "node:assert/strict";
import { generateKeyPairSync, sign } from "node:crypto";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { keyIdOf } from "../../../orchestrator/journal/chain.ts";
import { Problem } from "../../../orchestrator/problem.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import type { Secrets } from "../../../orchestrator/secrets/secrets.ts";
import { createEnrolments } from "../../../orchestrator/trials/enrolment.ts";
import { testSecrets } from "../../support/secrets.ts";
import { openTrialWorld, type TrialWorld } from "../../support/trial-world.ts";

const REFUSED = { code: "unauthenticated" };

test("enrolment tokens", async (t) => {
  await using opened = await openTrialWorld();
  const { life, world } = opened;
  const { enrolments } = life;

  await t.test("a token fits the wire's limits and says nothing secret", async () => {
    const { token } = await place(opened);
    assert.match(token, /^et-[\w.-]{150,197}$/);
  });

  await t.test("it is good once", async () => {
    const { allocationId, token } = await place(opened);
    const redeemed = await enrolments.redeem(token);
    assert.equal(redeemed.allocationId, allocationId);
    await assert.rejects(enrolments.redeem(token), REFUSED);
    await assert.rejects(enrolments.issue(allocationId), { code: "conflict" });
  });

  await t.test("of three uses at once, one gets in", async () => {
    const { token } = await place(opened);
    const uses = await Promise.allSettled([1, 2, 3].map(() => enrolments.redeem(token)));
    assert.equal(uses.filter(({ status }) => status === "fulfilled").length, 1);
  });

  await t.test("issued again, the one before is refused", async () => {
    const { allocationId, token } = await place(opened);
    const second = await enrolments.issue(allocationId);
    assert.notEqual(second, token);
    await assert.rejects(enrolments.redeem(token), REFUSED);
    assert.equal((await enrolments.redeem(second)).allocationId, allocationId);
  });

  await t.test("no part of it can be changed", async () => {
    const { token } = await place(opened);
    const other = await place(opened);
    const parts = token.slice(3).split(".");
    const others = other.token.slice(3).split(".");
    for (const index of parts.keys()) {
      const forged = `et-${parts.with(index, others[index] ?? "").join(".")}`;
      if (forged === token) continue;
      await assert.rejects(enrolments.redeem(forged), REFUSED, `part ${index}`);
    }
    for (const bad of ["", "et-", `${token}x`, ` ${token}`, "x".repeat(200)]) {
      await assert.rejects(enrolments.redeem(bad), REFUSED, bad);
    }
    await enrolments.redeem(token);
  });

  await t.test(
    "a hash written into the database is not enough: our key must have signed",
    async () => {
      const { allocationId } = await place(opened);
      const { publicKey, privateKey } = generateKeyPairSync("ed25519");
      const theirs = createEnrolments({
        db: world.database,
        clock: world.clock,
        random: seededRandom(7),
        secrets: {
          sign: async (message) => ({
            keyId: keyIdOf(publicKey),
            signature: sign(null, message, privateKey).toString("base64"),
          }),
          verify: async () => true,
        },
      });
      const forged = await theirs.issue(allocationId);
      await assert.rejects(enrolments.redeem(forged), REFUSED);
    },
  );

  await t.test("it expires by the database's clock", async () => {
    const { allocationId } = await place(opened);
    const secrets = await testSecrets();
    const { clock, random, database: db } = world;
    const brief = createEnrolments({ db, secrets, clock, random }, { lifetimeMs: 30 });
    const token = await brief.issue(allocationId);
    await db.sql.execute(sql`select pg_sleep(0.04)`);
    await assert.rejects(enrolments.redeem(token), REFUSED);
  });

  await t.test("it ends with its allocation", async () => {
    const { id, allocationId, token } = await place(opened);
    opened.scheduler.statuses.set(allocationId, "lost");
    await life.engine.advance();
    assert.ok((await life.trials.get(id)).tries > 1);
    await assert.rejects(enrolments.redeem(token), REFUSED);
    await assert.rejects(enrolments.issue(allocationId), { code: "conflict" });
  });
});

test("while the secrets are sealed a trial waits, says why, and goes on by itself", async () => {
  let isSealed = true;
  const real = await testSecrets();
  const secrets: Pick<Secrets, "sign" | "verify"> = {
    verify: real.verify,
    sign: async (message) => {
      if (isSealed) throw new Problem("secrets_sealed", "the key file is gone: restore it");
      return real.sign(message);
    },
  };
  await using opened = await openTrialWorld();
  const life = opened.another({ secrets });
  const id = await opened.create();
  await life.engine.advance();
  await life.engine.advance();
  const waiting = await life.trials.get(id);
  assert.equal(waiting.state, "admitted");
  assert.equal(waiting.reason, "waits for the secrets: the key file is gone: restore it");
  assert.deepEqual(opened.scheduler.placements, [], "nothing is half-placed");
  isSealed = false;
  await life.engine.advance();
  const placed = await life.trials.get(id);
  assert.deepEqual([placed.state, placed.reason], ["placed", null]);
});

async function place(opened: TrialWorld) {
  const id = await opened.create();
  await opened.life.engine.advance();
  const placed = opened.scheduler.placements.findLast((each) => each.trialId === id);
  assert.ok(placed !== undefined);
  return { id, allocationId: placed.allocationId, token: placed.enrolmentToken };
}
