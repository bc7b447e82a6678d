/**
 * Goal: weights at the command line: pulled, refused, stopped and gone on with, and who may.
 *
 * Method: `bin/autocode.mjs` is spawned against the real API over a real store, whose hub is on
 * this machine.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { createApi } from "../../../orchestrator/api/server.ts";
import { createPulls, type UsersHeld } from "../../../orchestrator/weights/pulls.ts";
import { openApiServices } from "../../support/api-services.ts";
import { eventually } from "../../support/eventually.ts";
import { COMMIT, madeUpCard, madeUpFiles } from "../../support/fake-hub.ts";
import { openWeightWorld } from "../../support/weights.ts";

const NOBODY: UsersHeld = (work) => work([]);

const BIN = join(resolve(import.meta.dirname, "../../.."), "bin/autocode.mjs");
const FIRST = "model-00001-of-00002.safetensors";

test("weights at the command line", async (t) => {
  const licence = { id: "made-up-terms", url: "https://licence.test/m", needsAcceptance: true };
  await using world = await openWeightWorld(madeUpCard({ licence }));
  await using fixture = await openApiServices();
  const cards = new Map([[world.card.name, world.card]]);
  const store = world.store();
  const weights = createPulls(store, cards, { pairs: new Map() }, world.dir, NOBODY);
  const api = createApi({ ...fixture.services, weights }, { version: "0.0.0" });
  t.after(() => api.close());
  const url = await api.listen({ port: 0, host: "127.0.0.1" });
  const token = await fixture.access.issueCliToken();
  const dir = join(world.dir, "made-up-1b", "bf16", COMMIT);

  await t.test(
    "an unknown model and a licence that binds are one line, with what to do",
    async () => {
      for (const [args, exit, told] of [
        [["99b"], 1, /unknown pair "99b".*models: made-up-1b/],
        [["made-up-1b"], 1, /made-up-terms.*licence\.test\/m.*--accept-licence made-up-terms/],
        [["made-up-1b", "--verify", "--from", "."], 2, /pull from the folder first/],
      ] as const) {
        const ended = await autocode(["model", "pull", ...args]);
        assert.match(ended.err, told);
        assert.equal(ended.exit, exit, ended.err);
        assert.match(ended.err, /^(\S+: \w+ [^\n]*\n)?autocode: [^\n]*\n$/);
      }
      assert.equal(world.hub.seen.length, 0);
    },
  );

  await t.test(
    "Ctrl-C keeps what came and says how to go on; the same command goes on",
    async () => {
      world.hub.faults = [{ path: FIRST, host: "cdn", does: { kind: "stall", afterBytes: 123 } }];
      const args = ["model", "pull", "made-up-1b", "--accept-licence", "made-up-terms"];
      const { child, ended } = start(args);
      const partial = join(dir, `${FIRST}.partial`);
      await eventually(
        () =>
          readFile(partial).then(
            ({ length }) => length,
            () => 0,
          ),
        (length) => length === 123,
        60_000,
      );
      child.kill("SIGINT");
      const stopped = await ended;
      assert.equal(stopped.exit, 1, stopped.err);
      assert.match(stopped.err, /what came is kept; to go on: autocode model pull made-up-1b\n$/);
      assert.equal((await readFile(partial)).length, 123);
      // The server has let go of it once the command's connection is gone.
      const again = await eventually(
        () => autocode(["model", "pull", "made-up-1b"]),
        ({ err }) => !err.includes("under way"),
        60_000,
      );
      assert.equal(again.exit, 0, again.err);
      assert.equal(again.out, `made-up-1b bf16 pulled into ${dir}\n`);
      assert.match(again.err, /^made-up-1b: fetching 0 B of 1\.\d kB/m);
      const ranges = world.hub.seen.filter(({ path }) => path.includes(`${FIRST}?`));
      assert.deepEqual(
        ranges.map(({ range }) => range),
        [null, "bytes=123-"],
      );
    },
  );

  await t.test("what is in the store, again, checked, and damaged", async () => {
    const listed = await autocode(["model", "pull"]);
    assert.match(
      listed.out,
      /^model +weights +state +size +revision +licence\nmade-up-1b +bf16 +whole/,
    );
    const json = JSON.parse((await autocode(["model", "pull", "--json"])).out);
    assert.equal(json.weights[0].licence, "made-up-terms");
    assert.match(json.weights[0].accepted_by, / \(admin\)$/);
    const here = await autocode(["model", "pull", "made-up-1b"]);
    assert.equal(here.out, `made-up-1b bf16 is here already: ${dir}\n`);
    const checked = await autocode(["model", "pull", "made-up-1b", "--verify", "--json"]);
    assert.equal(JSON.parse(checked.out)[0].step, "checked");
    const bytes = Buffer.from(madeUpFiles().get(FIRST) ?? []);
    bytes[bytes.length - 1] = 0;
    await writeFile(join(dir, FIRST), bytes);
    const damaged = await autocode(["model", "pull", "made-up-1b", "--verify"]);
    assert.equal(damaged.exit, 1);
    assert.match(damaged.err, new RegExp(`autocode: \\S+${FIRST} is damaged: .*Delete it`));
  });

  await t.test("who only looks may list and not pull; who operates names no folders", async () => {
    const call = async (role: "viewer" | "operator", body?: object) => {
      const own = createApi(
        {
          ...fixture.services,
          weights,
          access: { ...fixture.access, authenticate: async () => ({ role, name: null }) },
        },
        { version: "0.0.0" },
      );
      const headers = { authorization: "Bearer any" };
      const answer = await own.inject(
        body === undefined
          ? { url: "/api/v1/models/weights", headers }
          : { method: "POST", url: "/api/v1/models/pull", headers, payload: body },
      );
      await own.close();
      return answer.statusCode;
    };
    assert.equal(await call("viewer"), 200);
    assert.equal(await call("viewer", { model: "made-up-1b" }), 403);
    assert.equal(await call("operator", { model: "made-up-1b", from: "/etc" }), 403);
    assert.equal(await call("operator", { model: "99b" }), 404);
    assert.equal(await call("operator", { model: "made-up-1b", form: "/etc" }), 400);
  });

  function autocode(args: string[]) {
    return start(args).ended;
  }

  function start(args: string[]) {
    const child = spawn(process.execPath, [BIN, ...args], {
      env: { PATH: process.env["PATH"] ?? "", AUTOCODE_URL: url, AUTOCODE_TOKEN: token },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let [out, err] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
      out += chunk;
    });
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      err += chunk;
    });
    const ended = new Promise<{ exit: number | null; out: string; err: string }>((end) => {
      child.on("close", (exit) => end({ exit, out, err }));
    });
    return { child, ended };
  }
});
