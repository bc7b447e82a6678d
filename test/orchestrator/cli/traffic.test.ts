/**
 * Goal: people read traffic in a terminal that nothing of it can drive, scripts get it whole, and a
 * file is there only when it is.
 *
 * Method: `bin/autocode.mjs` against the real API over a store in memory.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import test from "node:test";
import { createApi } from "../../../orchestrator/api/server.ts";
import { flowLine, requestOf } from "../../../orchestrator/cli/flow-rows.ts";
import { bodyText } from "../../../orchestrator/cli/flow-text.ts";
import type { FlowRecord, FlowSummary } from "../../../orchestrator/contract/flows.ts";
import { summaryOf } from "../../../orchestrator/traffic/filter.ts";
import { PROJECT } from "../../support/api-answers.ts";
import { openApiServices } from "../../support/api-services.ts";
import { eventually } from "../../support/eventually.ts";
import { flowRecord, refusedFlow, textBody } from "../../support/flow-records.ts";

const BIN = resolve(import.meta.dirname, "../../../bin/autocode.mjs");
const HOSTILE = "\u001b]0;owned\u0007\u001b[2Jplain\u202e";

test("traffic in a terminal", async (t) => {
  await using world = await openWorld();
  const { fixture, autocode, flows } = world;
  const [posted, refused, hostile] = flows as [FlowRecord, FlowRecord, FlowRecord];

  await t.test("search fits 80 columns, and names what show takes", async () => {
    const { out, exit } = await autocode("traffic", "search");
    assert.equal(exit, 0);
    const lines = out.trimEnd().split("\n");
    assert.match(lines[0] ?? "", /^flow +time +outcome +bytes +request$/);
    assert.equal(lines.length, flows.length + 1);
    for (const line of lines) assert.ok([...line].length <= 80, line);
    assert.match(out, new RegExp(`${refused.id.slice(5)} +12:00:01 +refused +62 B +GET evil`));
    assertPlain(out);
    const json = await autocode("traffic", "search", "--refused", "--project", "demo", "--json");
    assert.deepEqual(JSON.parse(json.out), [summaryOf(refused)]);
    const some = await autocode("traffic", "search", "-n", "1");
    assert.match(some.err, /There are more: --limit 2/);
  });

  await t.test("what is no filter is told before and by the server", async () => {
    const since = await autocode("traffic", "search", "--since", "yesterday");
    assert.equal(since.exit, 2);
    assert.match(since.err, /--since: "yesterday" is neither a day/);
    const status = await autocode("traffic", "search", "--status", "9");
    assert.equal(status.exit, 2);
    assert.match(status.err, /status/);
    assert.equal((await autocode("traffic", "totals", "--by", "moon")).exit, 2);
    assert.equal((await autocode("traffic", "export", "--format", "pdf")).exit, 2);
  });

  await t.test("show: the decision and its rule, headers, bodies laid out", async () => {
    const { out } = await autocode("traffic", "show", posted.id.slice(5));
    assert.match(
      out,
      /^POST https:\/\/api\.example\.org:443\/v1\/items\?page=2&sort=name {2}200$/m,
    );
    assert.match(out, /^rule +rules\[0\]$/m);
    assert.match(out, /^cost +0\.00125 CAD$/m);
    assert.match(out, /^ {2}Cookie: a=1; theme=dark$/m);
    assert.match(out, /^ {2}title = Broken date\n {2}labels = bug,parser$/m);
    assert.match(out, /^ {4}"items": \[$/m);
    const shown = await autocode("traffic", "show", hostile.id);
    assert.match(shown.out, /plain/);
    assertPlain(shown.out);
    assert.doesNotMatch(shown.out, /owned/);
    const json = await autocode("traffic", "show", refused.id, "--json");
    assert.deepEqual(JSON.parse(json.out), refused);
    const none = await autocode("traffic", "show", fixture.ids.next("flow"));
    assert.equal(none.exit, 1);
    assert.match(none.err, /No flow has this id/);
  });

  await t.test("totals, and the line of a trial", async () => {
    const { out } = await autocode("traffic", "totals", "--by", "action");
    assert.match(out, /^action +flows +refused +errors +sent +received$/m);
    assert.match(out, /^deny +1 +1 +0/m);
    const trial = await autocode("trial", "show", posted.trial_id ?? "");
    assert.match(trial.out, /^traffic: 2 flows, 1 refused, 42 B sent, 89 B received$/m);
    fixture.traffic.fault = "The store of flows does not answer";
    const away = await autocode("trial", "show", posted.trial_id ?? "");
    assert.match(away.out, /^traffic: not known now: The store of flows does not answer$/m);
    fixture.traffic.fault = null;
  });

  await t.test("tail tells what comes, and ends with Ctrl-C", async () => {
    const tail = world.start("traffic", "tail", "--refused");
    const fresh = refusedFlow(fixture.ids, fixture.clock.ms + 60_000);
    // It is told what is stored after it has begun: which it is, once the first has come.
    await eventually(async () => {
      const next = refusedFlow(fixture.ids, fixture.clock.ms + 50_000);
      await fixture.services.traffic.append([next]);
      return tail.seen().out !== "";
    }, Boolean);
    await fixture.services.traffic.append([flowRecord(fixture.ids, fixture.clock.ms), fresh]);
    await eventually(
      () => tail.seen().out,
      (out) => /^12:01:00 refused +GET evil/m.test(out),
    );
    tail.child.kill("SIGINT");
    const { out } = await tail.ended;
    for (const line of out.trimEnd().split("\n")) assert.match(line, / refused .{63}$/);
  });
});

test("an export is a whole file or none", async (t) => {
  await using world = await openWorld();
  const { fixture, flows, autocode, folder } = world;

  await t.test("as the file is called", async () => {
    const { out } = await autocode("traffic", "export", "-o", "all.har");
    assert.match(out, /kB in .*all\.har\n$/);
    const har = JSON.parse(await readFile(join(folder, "all.har"), "utf8"));
    assert.equal(har.log.entries.length, flows.length);
    await autocode("traffic", "export", "-o", "all.jsonl", "--door", "egress");
    const lines = (await readFile(join(folder, "all.jsonl"), "utf8")).trimEnd().split("\n");
    assert.deepEqual(
      lines.map((line) => JSON.parse(line)),
      flows,
    );
    const piped = await autocode("traffic", "export", "--format", "jsonl", "--refused");
    assert.equal(piped.out.trimEnd().split("\n").length, 1);
  });

  await t.test("Ctrl-C, and a server that breaks off, leave no half of one", async () => {
    const before = await readdir(folder);
    const body = textBody("x".repeat(100_000), "text/plain");
    const big = flowRecord(fixture.ids, fixture.clock.ms, { response: { body } });
    let isBroken = false;
    fixture.services.traffic.scan = async function* () {
      for (let count = 0; count < 100_000; count++) {
        if (isBroken && count > 20) throw new Error("the store has gone");
        yield big;
        if (count > 200) await new Promise((done) => setTimeout(done, 5));
      }
    };
    const stopped = world.start("traffic", "export", "-o", "big.har");
    await eventually(
      () => readdir(folder),
      (names) => names.includes("big.har.part"),
    );
    await eventually(
      () => stopped.seen().err,
      (err) => /exported/.test(err),
    );
    stopped.child.kill("SIGINT");
    const ended = await stopped.ended;
    assert.equal(ended.exit, 1);
    assert.match(ended.err, /Stopped: nothing was written/);
    isBroken = true;
    const broken = await autocode("traffic", "export", "-o", "big.jsonl");
    assert.equal(broken.exit, 5, broken.err);
    assert.match(broken.err, /cut off before its end/);
    assert.deepEqual(await readdir(folder), before);
  });
});

test("bodies are laid out by what they are, and never change a number", () => {
  const text = (content: string, type: string | null) => bodyText(textBody(content, type));
  assert.equal(text('{"a":[1]}', "application/json"), '{\n  "a": [\n    1\n  ]\n}');
  assert.equal(
    text('{"n":12345678901234567890}', "application/json"),
    '{"n":12345678901234567890}',
  );
  assert.equal(text('{"cut', "application/json"), '{"cut');
  assert.equal(text("plain", null), "plain");
  assert.equal(
    text('event: x\ndata: {"a":1}\n\ndata: [DONE]\n\n', "text/event-stream; charset=utf-8"),
    'event: x\ndata: {\n  "a": 1\n}\n\ndata: [DONE]',
  );
  const bytes = { ...textBody("", "image/png"), encoding: "base64" as const };
  const hex = bodyText({ ...bytes, content: Buffer.alloc(300, 65).toString("base64") });
  assert.match(hex, /^000000 {2}(41 ){16} A{16}\n[\s\S]*… 44 more bytes$/);
});

test("a passing flow takes one line of 80 columns, however long its address is", () => {
  const ids = { next: () => "flow_01kah27zs8e4rsk0ncyqjpys5f" } as never;
  const cost = { amount_nanos: "1250000", currency: "CAD" };
  for (const path of ["/", `/${"x".repeat(500)}`]) {
    const flow: FlowSummary = { ...summaryOf(flowRecord(ids, 0)), path, cost };
    const line = flowLine(flow)
      .map((part) => (typeof part === "string" ? part : part[0]))
      .join("");
    assert.equal([...line].length, 80, line);
  }
});

test("dropped packets read as what they were, where to and how many", () => {
  const ids = { next: () => "flow_01kah27zs8e4rsk0ncyqjpys5f" } as never;
  const read = (host: string, port: number, count: number) => {
    const { server } = flowRecord(ids, 0);
    return requestOf(
      summaryOf(
        flowRecord(ids, 0, {
          ...{ kind: "packet", transport: "udp", request: null, response: null },
          ...{ server: { ...server, host, port }, sent_count: count },
        }),
      ),
    );
  };
  assert.equal(read("192.0.2.9", 53, 14), "udp 192.0.2.9:53, 14 packets");
  assert.equal(read("2001:db8::1", 53, 1), "udp [2001:db8::1]:53, 1 packet");
  assert.equal(read("192.0.2.9", 0, 2), "udp 192.0.2.9, 2 packets");
});

/** Nothing that a terminal would obey, and nothing that reorders a line. */
function assertPlain(text: string): void {
  assert.doesNotMatch(text.replaceAll("\n", ""), /\p{Cc}|[\u202a-\u202e]/u);
}

async function openWorld() {
  const fixture = await openApiServices();
  const folder = await mkdtemp(join(tmpdir(), "autocode-traffic-"));
  const api = createApi(fixture.services, { version: "0.0.0", pollMs: 50 });
  const url = await api.listen({ host: "127.0.0.1", port: 0 });
  const env = {
    PATH: process.env["PATH"] ?? "",
    AUTOCODE_URL: url,
    AUTOCODE_TOKEN: await fixture.access.issueCliToken(),
  };
  const made = await fixture.services.trials.create({
    ...{ project: "demo", agent: "aider", pair: "scripted", task: "fix-add" },
  });
  const of = { project_id: PROJECT.id, trial_id: made.id };
  const { ids, clock } = fixture;
  const flows = [
    flowRecord(ids, clock.ms, {
      ...of,
      cost: { amount_nanos: "1250000", currency: "CAD" },
      request: {
        ...{ method: "POST", byte_count: 42 },
        body: textBody(
          "title=Broken+date&labels=bug%2Cparser",
          "application/x-www-form-urlencoded",
        ),
      },
    }),
    refusedFlow(ids, clock.ms + 1_000, of),
    flowRecord(ids, clock.ms + 2_000, {
      request: { path: `/${HOSTILE}`, headers: [[HOSTILE, HOSTILE]] },
      response: { body: textBody(`${HOSTILE}\n${HOSTILE}`, HOSTILE) },
      decision: { detail: HOSTILE },
      error: HOSTILE,
    }),
  ];
  await fixture.services.traffic.append(flows);
  return {
    ...{ fixture, folder, flows, start },
    autocode: (...args: string[]) => start(...args).ended,
    [Symbol.asyncDispose]: async () => {
      await api.close();
      await fixture[Symbol.asyncDispose]();
      await rm(folder, { recursive: true });
    },
  };

  function start(...args: string[]) {
    const child = spawn(process.execPath, [BIN, ...args], {
      ...{ cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] },
    });
    const seen = { out: "", err: "" };
    for (const name of ["out", "err"] as const) {
      child[`std${name}`].setEncoding("utf8").on("data", (chunk: string) => {
        seen[name] += chunk;
      });
    }
    const ended = new Promise<{ exit: number | null; out: string; err: string }>((done) => {
      child.on("close", (exit) => done({ exit, ...seen }));
    });
    return { child, ended, seen: () => seen };
  }
}
