/**
 * Goal: the tool calls that Qwen2.5-Coder and Yi-Coder write are found, nothing else is taken for
 * one, and no character of an answer is lost; what their templates show is what is read.
 *
 * Method: the parser is Python, as vLLM is, and so are its tests: Python runs them. The templates
 * need jinja2, which vLLM brings. The plugin in a vLLM that answers is in engine/tool-parser.ts.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { env } from "node:process";
import { text } from "node:stream/consumers";
import test from "node:test";

const SERVING = join(import.meta.dirname, "../../../models/serving");
const VLLM = join(import.meta.dirname, "../../../.engines/vllm/bin/python");
const PYTHON = "python3";
const isRequired = env["AUTOCODE_REQUIRE_ENGINES"] === "all";

const python = [PYTHON].find((file) =>
  runs(file, "import sys; assert sys.version_info >= (3, 10)"),
);
const rendering = [PYTHON, VLLM].find((file) => runs(file, "import jinja2"));

test(
  "the reading of tool calls",
  { skip: python === undefined && !isRequired && "there is no Python of 3.10 or later" },
  () => passes(python ?? PYTHON, "tool_call_stream_test.py", 12),
);

test(
  "chat templates with tools",
  { skip: rendering === undefined && !isRequired && "no Python here has jinja2" },
  () => passes(rendering ?? PYTHON, "chat_templates_test.py", 4),
);

test(
  "the plugin, as vLLM loads it",
  { skip: !existsSync(VLLM) && !isRequired && "vLLM is not installed: npm run engines vllm" },
  () => passes(VLLM, "qwen25_coder_tool_parser_test.py", 5),
);

function runs(file: string, code: string): boolean {
  return (file === PYTHON || existsSync(file)) && spawnSync(file, ["-c", code]).status === 0;
}

/** All of its tests ran, and none failed: none that was not found counts as passed. */
async function passes(file: string, name: string, count: number): Promise<void> {
  const child = spawn(file, [join(import.meta.dirname, name)], {
    env: {
      PATH: env["PATH"],
      HOME: env["HOME"],
      PYTHONPATH: SERVING,
      PYTHONDONTWRITEBYTECODE: "1",
      PYTHONUTF8: "1",
      VLLM_NO_USAGE_STATS: "1",
      DO_NOT_TRACK: "1",
      HF_HUB_OFFLINE: "1",
    },
    stdio: ["ignore", "ignore", "pipe"],
  });
  const ended = new Promise((resolve, reject) => {
    child.once("close", resolve).once("error", reject);
  });
  const [said, status] = await Promise.all([text(child.stderr), ended]);
  assert.equal(status, 0, said);
  assert.match(said, new RegExp(`^Ran ${count} tests in .*\\n\\nOK$`, "m"), said);
}
