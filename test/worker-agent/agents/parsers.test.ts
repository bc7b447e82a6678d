/**
 * Goal: what a CLI prints is understood, and its end is never taken for more than it was.
 *
 * Method: lines recorded from the real CLIs, read to events, a summary and an outcome; then lines
 * that no CLI should print.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Agent, PhaseEnd } from "../../../worker-agent/agents/agent.ts";
import { AGENTS, findAgent } from "../../../worker-agent/agents/registry.ts";
import { INPUT } from "./inputs.ts";

const FIXTURES = join(import.meta.dirname, "fixtures");

/** How each recorded phase ended: exit codes seen, and what they must come to. */
const ENDINGS: Readonly<Record<string, { failed: number; outcome: string }>> = {
  plan: { failed: 0, outcome: "finished" },
  execute: { failed: 0, outcome: "finished" },
  budget: { failed: 1, outcome: "budget" },
  "bad-key": { failed: 1, outcome: "auth" },
};

for (const agent of AGENTS) {
  const { name, is_exit_code_trusted: isTrusted } = agent.facts;
  for (const file of readdirSync(FIXTURES).filter((entry) => entry.startsWith(`${name}-`))) {
    const what = file.slice(name.length + 1, -".txt".length);
    test(`${name}: its ${what} output is understood`, (t) => {
      const parser = parserOf(agent);
      const lines = readFileSync(join(FIXTURES, file), "utf8").split("\n");
      const events = lines.flatMap((line) => parser.push(line));
      const ending = ENDINGS[what];
      assert.ok(ending, `no ending is stated for ${file}`);
      const exitCode = isTrusted ? ending.failed : 0;
      const outcome = agent.outcome(endOf({ exitCode, output: parser.summary() }));
      assert.equal(outcome.outcome, ending.outcome);
      t.assert.snapshot({ events, summary: parser.summary(), outcome });
    });
  }

  test(`${name}: lines that make no sense are no events and no success`, () => {
    const parser = parserOf(agent);
    const junk = ["", "{", "{}", "null", "[1]", '{"type":7}', '{"type":"assistant","message":9}'];
    junk.push('{"type":"result"', '{"type":"item.completed"}', '{"type":"tool_use"}', "\u{1}{");
    for (const line of junk) for (const event of parser.push(line)) assert.ok(event.type);
    const outcome = agent.outcome(endOf({ exitCode: 0, output: parser.summary() }));
    assert.equal(outcome.outcome, "crash");
  });

  test(`${name}: an end by a signal is a kill, or a crash by its own fault`, () => {
    const output = parserOf(agent).summary();
    const outcomeOf = (end: Partial<PhaseEnd>) => agent.outcome(endOf({ ...end, output })).outcome;
    assert.equal(outcomeOf({ exitCode: null, signal: "SIGTERM" }), "killed");
    assert.equal(outcomeOf({ exitCode: null, signal: "SIGKILL" }), "killed");
    assert.equal(outcomeOf({ exitCode: null, signal: "SIGSEGV" }), "crash");
    assert.equal(outcomeOf({ exitCode: 143 }), "killed");
    assert.equal(outcomeOf({ exitCode: 1 }), "crash");
  });

  test(`${name}: a refused budget outranks the kill that follows it`, () => {
    const lastError = { message: "budget_exceeded: nothing is left", status: 403 };
    const output = { ...parserOf(agent).summary(), lastError };
    const end = endOf({ exitCode: null, signal: "SIGKILL", output });
    assert.equal(agent.outcome(end).outcome, "budget");
  });

  test(`${name}: a failed model call is no success, whatever the exit code`, () => {
    const lastError = { message: "the server failed", status: 500 };
    const output = { ...parserOf(agent).summary(), lastError, isComplete: true };
    assert.equal(agent.outcome(endOf({ exitCode: 0, output })).outcome, "model_error");
  });
}

test("a CLI's own limit is told from a failure", () => {
  const claude = findAgent("claude-code");
  const qwen = findAgent("qwen-code");
  assert.ok(claude && qwen);
  const parser = parserOf(claude);
  parser.push('{"type":"result","subtype":"error_max_turns","is_error":true,"session_id":"s"}');
  const end = endOf({ exitCode: 1, output: parser.summary() });
  assert.deepEqual(claude.outcome(end), { outcome: "limit", detail: "error_max_turns" });
  const stopped = endOf({ exitCode: 55, output: parserOf(qwen).summary() });
  assert.deepEqual(qwen.outcome(stopped), { outcome: "limit", detail: "ended with exit code 55" });
});

test("claude-code: success that calls itself an error is none, a retry that went well is", () => {
  const claude = findAgent("claude-code");
  assert.ok(claude);
  const parser = parserOf(claude);
  const retry = { type: "system", subtype: "api_retry", error_status: 529, error: "overloaded" };
  const [event] = parser.push(JSON.stringify(retry));
  assert.deepEqual(event, { type: "agent.error", data: { message: "overloaded", status: 529 } });
  const result = { type: "result", subtype: "success", is_error: true, result: "API Error: 500" };
  parser.push(JSON.stringify(result));
  assert.equal(outcomeOf(0), "model_error");
  parser.push(JSON.stringify({ ...result, is_error: false, result: "done" }));
  assert.equal(outcomeOf(0), "finished");

  function outcomeOf(exitCode: number) {
    return claude?.outcome(endOf({ exitCode, output: parser.summary() })).outcome;
  }
});

test("aider: an error is read over its line ends, and forgotten once a call goes through", () => {
  const aider = findAgent("aider");
  assert.ok(aider);
  const parser = parserOf(aider);
  parser.push("litellm.RateLimitError: RateLimitError: OpenAIException -");
  parser.push("budget_exceeded: nothing is left");
  const failed = endOf({ exitCode: 0, output: parser.summary() });
  assert.deepEqual(aider.outcome(failed), {
    outcome: "budget",
    detail:
      "litellm.RateLimitError: RateLimitError: OpenAIException - budget_exceeded: nothing is left",
  });
  for (const line of ["", "Here is the change.", "Tokens: 1.2k sent, 34 received."])
    parser.push(line);
  const ended = endOf({ exitCode: 0, output: parser.summary() });
  assert.equal(aider.outcome(ended).outcome, "finished");
});

function parserOf(agent: Agent) {
  const [phase] = agent.plan(INPUT);
  assert.ok(phase);
  return agent.parser(phase);
}

function endOf(end: Partial<PhaseEnd> & Pick<PhaseEnd, "output">): PhaseEnd {
  return { phase: "execute", exitCode: null, signal: null, ...end };
}
