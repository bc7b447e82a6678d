/**
 * Goal: `trial logs --worker` asks for what its options say, shows nothing that drives a terminal,
 * and refuses what makes no sense in one line.
 *
 * Method: the real command line against the real API on a socket.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { createApi } from "../../../orchestrator/api/server.ts";
import { openApiServices } from "../../support/api-services.ts";
import { openFolder, ROOT, runToEnd } from "../../support/installation.ts";

test("a worker's log by the command", async () => {
  await using fixture = await openApiServices();
  await using folder = await openFolder();
  await using api = createApi(fixture.services, { version: "0.0.0" });
  const env = {
    PATH: process.env["PATH"] ?? "",
    AUTOCODE_URL: await api.listen({ host: "127.0.0.1", port: 0 }),
    AUTOCODE_TOKEN: await fixture.access.issueCliToken(),
  };
  const cell = { project: "demo", agent: "aider", pair: "scripted", task: "fix-add" };
  const { id } = await fixture.services.trials.create(cell);
  const logs = (...args: string[]) =>
    runToEnd(process.execPath, [join(ROOT, "bin/autocode.mjs"), "trial", "logs", id, ...args], {
      cwd: folder.path,
      env,
    });

  const cases: [args: string[], exit: number, out: string, err: RegExp][] = [
    [["--worker"], 0, "the log: both of newest: safe\n", /^$/],
    [["--worker", "--stdout", "--stderr"], 0, "the log: both of newest: safe\n", /^$/],
    [
      ["--worker", "--stderr", "-f", "--allocation", "allocation_x"],
      0,
      "the log: stderr of allocation_x: safe\n",
      /^$/,
    ],
    [["--stderr"], 2, "", /are of a worker's log: add --worker/],
    [["--worker", "--json"], 2, "", /--json is for events/],
  ];
  for (const [args, exit, out, err] of cases) {
    const ended = await logs(...args);
    assert.equal(ended.exit, exit, `${args.join(" ")}: ${ended.err}`);
    assert.equal(ended.out, out);
    assert.match(ended.err, err);
  }
});
