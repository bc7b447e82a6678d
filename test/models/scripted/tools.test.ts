/**
 * Goal: each neutral operation becomes a tool use that the CLI's own schema accepts.
 *
 * Method: `offered-tools.json` holds the tools that the real CLIs offered in recorded requests
 * (names and types only) and the line by which each tells its working directory. What an agent
 * without a tool for it does by shell is run for real.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import {
  type ModelRequest,
  type OfferedTool,
  ScriptedProblem,
} from "../../../models/scripted/dialect.ts";
import type { Op } from "../../../models/scripted/script.ts";
import { mapOp, workdirOf } from "../../../models/scripted/tools.ts";

interface Recorded {
  workdir_line: string;
  tools: (Pick<OfferedTool, "name" | "properties" | "required"> & { is_freeform?: boolean })[];
}
const file = join(import.meta.dirname, "offered-tools.json");
const recorded = JSON.parse(readFileSync(file, "utf8")) as Record<string, Recorded>;

const OPS: readonly Op[] = [
  { read: "src/it's.js" },
  { edit: { path: "src/a.js", old: "one\ntwo\n", new: "three\n" } },
  { write: { path: "deep/b.txt", content: "it's\nnew\n" } },
  { shell: "node --test" },
];

function requestWith(tools: readonly OfferedTool[], system = ""): ModelRequest {
  return {
    model: "scripted-normal",
    isStream: true,
    maxOutputTokens: null,
    system,
    turns: [{ role: "user", text: "Do it." }],
    tools,
    wantsThinking: false,
    usageChunks: "none",
    bodyBytes: 1,
    digest: "d",
  };
}

for (const [agent, { tools, workdir_line }] of Object.entries(recorded)) {
  const offered = tools.map(({ is_freeform = false, ...tool }) => ({
    ...tool,
    isFreeform: is_freeform,
  }));
  const request = requestWith(offered, `You are an agent.\n${workdir_line}\nBe brief.`);

  test(`${agent}: its operations are the ones we reviewed`, (t) => {
    t.assert.snapshot(OPS.map((op) => mapOp(op, request)));
  });

  test(`${agent}: fills only what the schema has, and all it requires`, () => {
    for (const op of OPS) {
      const use = mapOp(op, request);
      if (use.isFreeform) continue;
      const { properties, required } = offered.find(({ name }) => name === use.name) ?? {
        properties: {},
        required: ["its tool"],
      };
      const keys = Object.keys(JSON.parse(use.input) as object);
      assert.deepEqual(
        keys.filter((key) => !(key in properties)),
        [],
      );
      assert.deepEqual(
        required.filter((key) => !keys.includes(key)),
        [],
      );
    }
  });

  test(`${agent}: tells its working directory`, () => {
    assert.equal(workdirOf(request), "/srv/task");
  });
}

const BASH: OfferedTool = {
  name: "bash",
  isFreeform: false,
  properties: { command: { type: "string" } },
  required: ["command"],
};

test("without edit and write tools the shell does it, and fails where an edit tool would", () => {
  const folder = mkdtempSync(join(tmpdir(), "scripted-"));
  try {
    const run = (op: Op): string => {
      const { command } = JSON.parse(mapOp(op, requestWith([BASH])).input) as { command: string };
      return execFileSync("sh", ["-c", command], {
        cwd: folder,
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
      });
    };
    run({ write: { path: "new/it's.txt", content: "a $HOME `x` 'q' \\n\n\"b\"\n" } });
    assert.equal(run({ read: "new/it's.txt" }), "a $HOME `x` 'q' \\n\n\"b\"\n");

    writeFileSync(join(folder, "a.js"), "one $& two\nlast\n");
    const edit = { path: "a.js", old: "one $& two\n", new: 'it\'s `$x` $& \\ "y"\n' };
    run({ edit });
    assert.equal(readFileSync(join(folder, "a.js"), "utf8"), 'it\'s `$x` $& \\ "y"\nlast\n');
    assert.throws(() => run({ edit }), { status: 1 });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a shell that takes a list of words gets one", () => {
  const shell: OfferedTool = { ...BASH, name: "shell", properties: { command: { type: "array" } } };
  assert.deepEqual(mapOp({ shell: "ls -l" }, requestWith([shell])), {
    name: "shell",
    input: '{"command":["sh","-c","ls -l"]}',
    isFreeform: false,
  });
});

test("what a schema requires besides is filled with something it accepts", () => {
  const strict: OfferedTool = {
    ...BASH,
    properties: {
      command: { type: "string" },
      description: { type: "string" },
      mode: { enum: ["now", "later"] },
      lines: { type: "integer" },
      ask: { type: ["boolean", "null"] },
    },
    required: ["command", "description", "mode", "lines", "ask"],
  };
  assert.deepEqual(JSON.parse(mapOp({ shell: "ls" }, requestWith([strict])).input), {
    command: "ls",
    description: "Run a command of the script",
    mode: "now",
    lines: 0,
    ask: false,
  });
});

test("a named tool is passed through, and refused when it is not offered", () => {
  const op: Op = { tool: { name: "bash", args: { command: "ls", anything: [1] } } };
  assert.equal(mapOp(op, requestWith([BASH])).input, '{"command":"ls","anything":[1]}');
  const message = "the script needs the tool todo, and the agent offers only: bash";
  assert.throws(
    () => mapOp({ tool: { name: "todo", args: {} } }, requestWith([BASH])),
    new ScriptedProblem(400, "script_tool_missing", message),
  );
});

test("no shell and nothing to do without it: the error says what is offered", () => {
  const message = "the script needs a shell, and the agent offers only: nothing";
  assert.throws(
    () => mapOp({ shell: "ls" }, requestWith([])),
    new ScriptedProblem(400, "script_tool_missing", message),
  );
});
