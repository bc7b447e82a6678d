/**
 * Goal: what a person or a script meets: output, exit status, and one line for each mistake.
 *
 * Method: `bin/autocode.mjs` is spawned against the real API on a socket; behind its ports, trials
 * are moved from state to state by the test.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import test from "node:test";
import { createApi } from "../../../orchestrator/api/server.ts";
import type { Trial } from "../../../orchestrator/contract/trials.ts";
import type { TrialId } from "../../../orchestrator/runtime/ids.ts";
import { APPROVAL } from "../../support/api-answers.ts";
import { type ApiFixture, openApiServices } from "../../support/api-services.ts";

const ROOT = resolve(import.meta.dirname, "../../..");
const BIN = join(ROOT, "bin/autocode.mjs");
const ENDED_AT = "2026-11-21T12:01:00.000Z";

const APPROVAL_SHOWN =
  /^approval_\S+ +open\ntrial .* demo\nspent +0\.041 CAD of 0\.05 CAD\nshort [\s\S]* 50 % sure, from 7 of its own calls\nsuggested +0\.03 CAD\nkept [\s\S]*content +(5f){32}\n$/;

interface Ended {
  exit: number | null;
  out: string;
  err: string;
}

test("trial run follows the trial to its verdict", async (t) => {
  await using world = await openWorld();
  const { fixture, autocode } = world;
  const inline = ["--path", ".", "--instruction", "Fix it", "--test", "npm test"];

  const ends: [string, Partial<Trial>, number, RegExp][] = [
    ["passed", { state: "succeeded", verdict: "passed", ended_at: ENDED_AT }, 0, /passed/],
    ["failed", { state: "failed", verdict: "failed", ended_at: ENDED_AT }, 1, /failed/],
    [
      "errored",
      { state: "errored", reason: "the agent crashed", ended_at: ENDED_AT },
      1,
      /errored/,
    ],
    ["paused", { state: "paused", reason: "the budget is gone" }, 3, /paused/],
  ];
  for (const [name, change, exit, verdict] of ends) {
    await t.test(`${name} exits with ${exit}`, async () => {
      fixture.onCreate = (id) => drive(fixture, id, change);
      const ended = await autocode(["trial", "run", ...inline, "-a", "aider"]);
      assert.equal(ended.exit, exit, ended.err);
      const [head = "", row = "", ...rest] = ended.out.trimEnd().split("\n");
      assert.deepEqual(head.split(/\s+/), [
        "agent",
        "pair",
        "task",
        "verdict",
        "in",
        "out",
        "cost",
        "time",
      ]);
      assert.match(row, verdict);
      assert.match(row, /^aider +scripted +inline .* 1\.50k +45 +0\.00042 CAD/);
      assert.deepEqual(rest, []);
      assert.match(ended.err, /execute \(normal model\)/);
      if (name === "paused")
        assert.match(ended.err, /the budget is gone\..*autocode trial resume trial_\w+/);
      if (name === "errored") assert.match(ended.err, /the agent crashed/);
    });
  }

  await t.test("--json prints the trial and nothing else on standard output", async () => {
    fixture.onCreate = (id) =>
      drive(fixture, id, { state: "succeeded", verdict: "passed", ended_at: ENDED_AT });
    const { out, exit } = await autocode(["trial", "run", ...inline, "--json"]);
    assert.equal(exit, 0);
    assert.equal((JSON.parse(out) as Trial).verdict, "passed");
  });

  await t.test("--dry-run asks for nothing", async () => {
    const before = fixture.trials.size;
    const { out } = await autocode(["trial", "run", ...inline, "--budget", "0.5", "--dry-run"]);
    assert.deepEqual(JSON.parse(out), {
      project: "demo",
      agent: "aider",
      pair: "scripted",
      task: { path: world.folder, instruction: "Fix it", test_command: "npm test" },
      limit_nanos: "500000000",
    });
    assert.equal(fixture.trials.size, before);
  });

  await t.test("Ctrl-C asks the server to stop the trial, and follows it to its end", async () => {
    const { promise: started, resolve: start } = Promise.withResolvers<TrialId>();
    fixture.onCreate = (id) => {
      fixture.moveTo(id, { state: "running" });
      start(id);
    };
    const running = world.start(["trial", "run", ...inline]);
    const id = await started;
    await running.saw(/running/);
    running.child.kill("SIGINT");
    const ended = await running.ended;
    assert.equal(fixture.trials.get(id)?.state, "cancelled");
    assert.equal(ended.exit, 1);
    assert.match(ended.out, /cancelled/);
  });
});

test("the other commands print tables, JSON and documents", async (t) => {
  await using world = await openWorld();
  const { fixture, autocode } = world;
  fixture.onCreate = (id) =>
    drive(fixture, id, { state: "succeeded", verdict: "passed", ended_at: ENDED_AT });
  const { out } = await autocode(["trial", "run", "--task", "fix-add", "--json"]);
  const { id } = JSON.parse(out) as Trial;
  fixture.emit(id as TrialId, "agent.message", { text: "evil \u001b]52;c;eA==\u0007 text" });
  await writeFile(
    join(fixture.folder, "terminal.cast"),
    '{"version":2}\n[0.1,"o","\\u001b[2Jhi\\r\\n"]\n',
  );
  fixture.effects["terminal"] = 1;

  const cases: [string[], RegExp, number?][] = [
    [["trial", "ls"], /^trial +agent +task +state +cost\ntrial_\w+ +aider +fix-add +passed/],
    [["trial", "show", id], /changes\.patch +9/],
    [["trial", "logs", id], /agent\.message {2}text=evil {2}text/],
    [["trial", "logs", id, "--follow"], /agent\.message/],
    [["trial", "attach", id], /^hi\n$/],
    [["trial", "diff", id], /^--- a\n\+\+\+ b\n$/],
    [["trial", "trajectory", id], /ATIF-v1\.7/],
    [
      ["trial", "reprice", id],
      /normal +1\.50k +45 +0\.00042 CAD +0\.0004 [\s\S]*1 call by m@2026-01-01/,
    ],
    [
      ["trial", "reprice", id, "--pair", "scripted", "--at", "2026-11-21"],
      /difference {2}-0\.00002/,
    ],
    [["model", "price"], /^model +input +cached +output +tiers\nscripted-normal +0\.20/],
    [
      ["model", "price", "scripted-normal", "--at", "2026-11-21"],
      /CAD at 2026-11-21T00:00:00\.000Z/,
    ],
    [["trial", "stop", id], /cancelled/],
    [["project", "ls"], /^project +tasks +spent +available\ndemo +1 /],
    [["project", "show", "demo"], /available {2}9007199\.25 CAD/],
    [["task", "ls"], /^task +tests +decided by +instruction\nfix-add +hidden/],
    [["task", "import", "some/folder"], /^fix-add {2}task_/],
    [["budget", "show"], /^budget +reserved +spent +available\ndemo +0\.00 CAD/],
    [["budget", "show", "demo"], /^funded {5}9007199\.25 CAD\n/],
    [["budget", "show", "demo"], /^organisation .* no limit +-$/m],
    [
      ["budget", "show", "demo"],
      /^project tokens +420,000 tokens +420,000 tokens +until 2026-11-21T16:00Z$/m,
    ],
    [["budget", "show", "demo"], /^next top-up {2}10\.00 CAD on 2026-12-01$/m],
    [["budget", "show", "demo", "--at", "2026-11-20"], /^funded/],
    [["budget", "statement", "demo"], /^at +what +with +amount +available +note\n.*topup +organ/],
    [["budget", "statement", "demo", "--csv"], /^transfer_id,at,.*\r\n.*,"'=1\+1, for the ninth/],
    [["budget", "statement", "demo", "--tokens", "-n", "2"], /^at +what/],
    [["budget", "topup", "demo", "5000 TOK", "--note", "more"], /^funded/],
    [["budget", "income", "demo", "10", "--note", "invoice 7"], /^income +10\.00 CAD in all$/m],
    [["budget", "events", "demo"], /^at +budget +event +spent +of\n.* passed 80 % /],
    [["budget", "pl", "demo"], /aider +scripted +1\/2 [\s\S]*^result +-0\.00042 CAD$/m],
    [["budget", "costs", "demo", "--by", "phase"], /^phase +[\s\S]*0\.00042 CAD a success$/m],
    [["budget", "adherence", "demo"], /^of 1 limited budgets, each held\nproof +checkpoint 12, /m],
    [
      ["approval", "ls"],
      /^approval +asks for +state +spent +suggested\napproval_\S+ +money +open +0\.041 CAD +0\.03 /,
    ],
    [["approval", "show", APPROVAL.id], APPROVAL_SHOWN],
    [["approval", "show", APPROVAL.trial_id], APPROVAL_SHOWN],
    [["approval", "approve", APPROVAL.id], /granted, 0\.01 CAD more; trial_\S+ goes on\n$/],
    [["approval", "approve", APPROVAL.id, "--amount", "0.5"], /granted, 0\.50 CAD more/],
    [
      ["approval", "reject", APPROVAL.id, "--reason", "too dear"],
      /rejected; trial_\S+ is cancelled/,
    ],
    [["budget", "topup", "demo", "1.50"], /^funded/],
    [["budget", "topup", "demo", "1.50 CAD"], /^funded/],
    [["budget", "export", "demo", "--since", "2026-11-01"], /^BilledCost\n/],
    [["agent", "ls"], /^agent +version +installed .*\naider +1\.2\.3 +no /],
    [["agent", "install", "aider"], /^aider 1\.2\.3\n/],
    [["model", "ls"], /agents\nscripted +scripted-normal +scripted-thinking +scripted .* all\n/],
    [["doctor"], /missing {2}agent aider {2}not installed\n +→ install it/, 1],
    [["login"], /^http:\/\/127\.0\.0\.1:\d+\/login\?secret=autocode_login_link_\S+\n$/],
    [["egress", "policy"], /^preset npm\[0\] +allow +GET,HEAD +\S/m],
    [["egress", "test", "https://nobody.example/x"], /^deny {2}no_rule {2}no rule\nNo rule/, 4],
    [["experiment", "ls"], /^experiment +name +ended +cost\n/],
  ];
  for (const [args, expected, exit = 0] of cases) {
    await t.test(`autocode ${args.join(" ").replace(id, ":id")}`, async () => {
      const ended = await autocode(args);
      assert.equal(ended.exit, exit, ended.err);
      assert.match(ended.out, expected);
      assert.ok(!ended.out.includes("\u001b"));
      const [widest = ""] = ended.out.split("\n").toSorted((a, b) => b.length - a.length);
      if (
        ["ls", "show", "statement", "events", "pl", "costs"].includes(args[1] ?? "") &&
        !args.includes("--csv")
      )
        assert.ok(widest.length <= 80, widest);
    });
  }
  await t.test("each --json is JSON", async () => {
    for (const verb of ["show", "statement", "events", "pl", "costs", "adherence"]) {
      JSON.parse((await autocode(["budget", verb, "demo", "--json"])).out);
    }
    const jsons = ["trial ls", "project ls", "task ls", "budget show", "agent ls", "model ls"];
    for (const words of [...jsons, "experiment ls", "login"]) {
      JSON.parse((await autocode([...words.split(" "), "--json"])).out);
    }
    JSON.parse((await autocode(["trial", "show", id, "--json"])).out);
  });
});

test("budget set changes the project's file where it is accepted, and keeps its comments", async () => {
  await using world = await openWorld();
  const file = join(world.folder, "autocode.yaml");
  const text = `# Ours.
project: demo
currency: CAD
budget:
  total: "20.00" # for the year
  per_trial: 0.50

agents: [aider]
limits: {retries: 1}
`;
  await writeFile(file, text);
  const set = (...args: string[]) => world.autocode(["budget", "set", "demo", ...args]);
  const done = await set(
    "--total",
    "30",
    "--daily",
    "2.5",
    "--tokens",
    "9000",
    "--alerts",
    "50,90",
  );
  assert.equal(done.exit, 0, done.err);
  assert.match(done.out, /^funded/);
  const changed = await readFile(file, "utf8");
  assert.equal(
    changed,
    `# Ours.
project: demo
currency: CAD
budget:
  total: "30" # for the year
  per_trial: 0.50
  daily_allowance: "2.5"
  tokens:
    total: 9000
  alerts:
    - 50
    - 90

agents: [aider]
limits: {retries: 1}
`,
  );
  assert.equal((await set("--daily", "none", "--tokens", "none", "--alerts", "none")).exit, 0);
  assert.equal(await readFile(file, "utf8"), text.replace("20.00", "30"));

  // A project file with this word in it is refused by the fixture's server.
  await writeFile(file, text.replace("Ours", "bad"));
  const refused = await set("--total", "40");
  assert.equal(refused.exit, 2);
  assert.equal(await readFile(file, "utf8"), text.replace("Ours", "bad"));
  for (const [args, message] of [
    [[], /nothing to set: give at least one of --total, --daily/],
    [["--total", "none"], /--total: it cannot be left out/],
    [["--total", "many"], /--total: "many" is not an amount/],
    [["--tokens", "1.5"], /--tokens: "1\.5" is not a whole number of tokens/],
    [["--alerts", "all"], /--alerts: "all" is not a list of percents/],
  ] as const) {
    const ended = await set(...args);
    assert.equal(ended.exit, 2);
    assert.match(ended.err, message);
  }
  const other = await world.autocode(["budget", "set", "tidy", "--total", "40"]);
  assert.match(other.err, /it is of project demo; name another/);
});

test("an experiment is followed to its table, agents by pairs", async () => {
  await using world = await openWorld();
  const { fixture, autocode } = world;
  fixture.onCreate = (id) =>
    drive(fixture, id, { state: "succeeded", verdict: "passed", ended_at: ENDED_AT });
  const args = ["experiment", "run", "-a", "aider,qwen-code", "-m", "scripted", "-k", "2"];
  const ended = await autocode(args);
  assert.equal(ended.exit, 0, ended.err);
  assert.match(ended.out, /aider +scripted +fix-add +passed/);
  assert.match(ended.out, /qwen-code +scripted +fix-add +passed/);
  const id = [...fixture.trials.values()][0]?.experiment_id ?? "";
  const report = await autocode(["experiment", "report", id]);
  assert.equal(report.exit, 0, report.err);
  assert.match(report.out, /aider/);
  const json = await autocode(["experiment", "report", id, "--json"]);
  assert.equal(JSON.parse(json.out).cells.length, 2);
});

test("agent test installs, runs a trial, and reports what was seen", async () => {
  await using world = await openWorld();
  const { fixture, autocode } = world;
  fixture.onCreate = (id) => {
    fixture.emit(id, "agent.tool_call", { call_id: "1", name: "edit", arguments: {} });
    fixture.emit(id, "egress.refused", { host: "telemetry.example", method: "CONNECT" });
    drive(fixture, id, { state: "succeeded", verdict: "passed", ended_at: ENDED_AT });
  };
  const { out, exit, err } = await autocode(["agent", "test", "aider"]);
  assert.equal(exit, 0, err);
  assert.match(out, /^version +1\.2\.3 \(pinned 1\.2\.3\)$/m);
  assert.match(out, /^model sides +thinking 0, normal 1 \(not both\)$/m);
  assert.match(out, /^tools +edit 1$/m);
  assert.match(out, /^edits +yes, a patch of 9 bytes$/m);
  assert.match(out, /^egress refused +1 \(telemetry\.example\)$/m);
  assert.match(out, /^verdict +passed$/m);
});

test("mistakes are one line on standard error, with their exit status", async (t) => {
  await using world = await openWorld();
  const { autocode } = world;
  const nothing = `trial_${"0".repeat(26)}`;
  const run = ["trial", "run", "--path", ".", "--instruction", "x", "--test", "true"];
  const cases: [string[], number, RegExp][] = [
    [["nothing"], 2, /there is no command "nothing"/],
    [["trial"], 2, /autocode trial needs one of: run, ls/],
    [["trial", "run"], 2, /say --path, --instruction and --test, or --task/],
    [["trial", "run", "--path", "."], 2, /--instruction is missing/],
    [["trial", "run", "--bogus"], 2, /Unknown option '--bogus'/],
    [[...run, "--budget", "-3"], 2, /--budget: "-3" is not an amount above 0/],
    [[...run, "--budget", "1e3"], 2, /"1e3" is not an amount/],
    [[...run, "--task", "t"], 2, /--task and --path exclude each other/],
    [[...run, "--seed", "-1"], 2, /--seed: "-1" is not a whole number/],
    [[...run, "-a", "nobody"], 2, /agent: there is no agent nobody/],
    [["trial", "show"], 2, /missing <trial>/],
    [["trial", "show", nothing, "more"], 2, /unexpected argument "more"/],
    [["trial", "show", nothing], 1, /No trial has this id/],
    [["trial", "ls", "-n", "0"], 2, /--limit: "0" is not a whole number from 1 to 200/],
    [["trial", "ls", "--state", "asleep"], 2, /querystring\.state/],
    [["trial", "resume", nothing], 1, /No trial has this id/],
    [["approval", "reject", APPROVAL.id], 2, /--reason is missing: say why/],
    [["approval", "approve", APPROVAL.id, "--amount", "x"], 2, /--amount: "x" is not an amount/],
    [["approval", "approve", APPROVAL.id, "--hash", "0".repeat(64)], 1, /asks for something else/],
    [["budget", "topup", "demo", "abc"], 2, /amount: "abc" is not an amount/],
    [["budget", "topup", "demo", "1 EUR"], 2, /in CAD, not in EUR/],
    [["budget", "topup", "demo", "1.5 TOK"], 2, /"1\.5" is not a whole number of tokens/],
    [["budget", "show", "none"], 1, /no budget none/],
    [["budget", "show", "--at", "2026-11-20"], 2, /--at: name a project or a trial/],
    [["budget", "show", "demo", "--at", "now"], 2, /--at: "now" is no day/],
    [["budget", "costs", "demo", "--by", "colour"], 2, /--by: "colour" is not one of agent_pair/],
    [["budget", "income", "demo", "5 TOK"], 2, /income is money, not tokens/],
    [["budget", "set", "demo", "--daily", "1"], 2, /autocode\.yaml: there is no such file/],
    [["budget", "export", "demo", "--since", "yesterday"], 2, /--since: "yesterday" is no day/],
    [["budget", "export", "demo", "--format", "xml"], 2, /not csv or json/],
    [["project", "apply"], 2, /autocode\.yaml: there is no such file/],
    [["task", "init", "No Name"], 2, /is not a task name/],
    [["agent", "install", "nobody"], 1, /there are aider, qwen-code/],
    [["completion", "tcsh"], 2, /bash, zsh or fish/],
  ];
  for (const [args, exit, expected] of cases) {
    await t.test(`autocode ${args.join(" ")} exits with ${exit}`, async () => {
      const ended = await autocode(args);
      assert.equal(ended.exit, exit, ended.err);
      assert.match(ended.err, expected);
      assert.equal(ended.err.trimEnd().split("\n").length, 1, ended.err);
      assert.match(ended.err, /^autocode: /);
      assert.equal(ended.out, "");
    });
  }
  assert.deepEqual(world.fixture.effects, {});

  await t.test("no server, no token, a wrong token", async () => {
    const none = await autocode(["trial", "ls"], { AUTOCODE_HOME: join(world.folder, "none") });
    assert.equal(none.exit, 5);
    assert.match(none.err, /not running here: start it with `npm start` or `autocode up`/);
    const gone = await autocode(["trial", "ls"], {
      AUTOCODE_URL: "http://127.0.0.1:1",
      AUTOCODE_TOKEN: "x",
    });
    assert.equal(gone.exit, 5);
    const tokenless = await autocode(["trial", "ls"], {
      AUTOCODE_URL: "http://127.0.0.1:1",
      AUTOCODE_HOME: join(world.folder, "none"),
    });
    assert.equal(tokenless.exit, 2);
    const wrong = await autocode(["trial", "ls"], { AUTOCODE_TOKEN: "wrong" });
    assert.equal(wrong.exit, 4);
    assert.match(wrong.err, /does not know our token/);
  });
});

test("skeletons are written once, and never over what is there", async () => {
  await using world = await openWorld();
  const { autocode, folder } = world;
  assert.equal((await autocode(["project", "init"])).exit, 0);
  assert.match(await readFile(join(folder, "autocode.yaml"), "utf8"), /per_trial: "0\.50"/);
  assert.equal((await autocode(["project", "init"])).exit, 2);
  assert.equal((await autocode(["project", "apply"])).exit, 0);
  assert.equal((await autocode(["task", "init", "tasks/mine"])).exit, 0);
  assert.match(await readFile(join(folder, "tasks/mine/task.toml"), "utf8"), /\[verifier\]/);
  assert.equal((await autocode(["task", "init", "tasks/mine"])).exit, 2);
});

test("the server is found from a folder below the one that holds .autocode", async () => {
  await using world = await openWorld();
  const below = join(world.folder, "a/b");
  await mkdir(below, { recursive: true });
  const { exit } = await world.autocode(["trial", "ls"], { AUTOCODE_HOME: "" }, below);
  assert.equal(exit, 0);
});

interface World extends AsyncDisposable {
  fixture: ApiFixture;
  folder: string;
  autocode(args: string[], env?: Record<string, string>, cwd?: string): Promise<Ended>;
  start(args: string[], env?: Record<string, string>, cwd?: string): Running;
}

type Running = ReturnType<typeof run>;

async function openWorld(): Promise<World> {
  const fixture = await openApiServices();
  const api = createApi(fixture.services, { version: "0.0.0", pollMs: 100 });
  const url = await api.listen({ host: "127.0.0.1", port: 0 });
  const token = await fixture.access.issueCliToken();
  const folder = await mkdtemp(join(tmpdir(), "autocode-cli-"));
  const configs = join(folder, ".autocode/shared/configs");
  await mkdir(configs, { recursive: true });
  await writeFile(join(configs, "endpoint.json"), JSON.stringify({ url, token }));
  await chmod(join(configs, "endpoint.json"), 0o600);
  const start: World["start"] = (args, env = {}, cwd = folder) =>
    run(args, { AUTOCODE_HOME: join(folder, ".autocode"), ...env }, cwd);
  return {
    fixture,
    folder,
    start,
    autocode: (args, env, cwd) => start(args, env, cwd).ended,
    [Symbol.asyncDispose]: async () => {
      await api.close();
      await fixture[Symbol.asyncDispose]();
      await rm(folder, { recursive: true });
    },
  };
}

function run(args: string[], env: Record<string, string>, cwd: string) {
  const child = spawn(process.execPath, [BIN, ...args], {
    cwd,
    env: { PATH: process.env["PATH"] ?? "", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let out = "";
  let err = "";
  let look = () => {};
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    out += chunk;
  });
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    err += chunk;
    look();
  });
  const ended = new Promise<Ended>((resolve) => {
    child.on("close", (exit) => resolve({ exit, out, err }));
  });
  return { child, ended, saw };

  /** Resolves once standard error has shown `pattern`; fails when the command ends before. */
  async function saw(pattern: RegExp): Promise<void> {
    const shown = new Promise<void>((resolve) => {
      look = () => pattern.test(err) && resolve();
      look();
    });
    await Promise.race([
      shown,
      ended.then(({ err: text }) => assert.match(text, pattern, "it ended before")),
    ]);
  }
}

/** Moves a trial through a run to its end, as the engine would. */
function drive(fixture: ApiFixture, id: TrialId, end: Partial<Trial>): void {
  fixture.moveTo(id, { state: "running" });
  fixture.emit(id, "phase.started", { phase: "execute", side: "normal", agent: "x", argv: [] });
  fixture.emit(id, "call.settled", {
    call_id: "call_1",
    side: "normal",
    model: "m",
    input_tokens: 1200,
    output_tokens: 45,
    cost_nanos: "420000",
  });
  fixture.moveTo(id, end);
}
