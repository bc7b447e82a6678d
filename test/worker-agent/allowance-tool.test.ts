/**
 * Goal: any client of the Model Context Protocol can ask for the allowance, and none can make the
 * server end, answer wrongly or hang.
 *
 * Method: its answers line by line; then the program itself, from a copy in a folder of its own, as
 * the worker starts it.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { answerLine } from "../../worker-agent/allowance-tool.ts";

const CONTENT = '{ "summary": "0.1000 CAD are left." }\n';

async function ask(message: unknown, read = async () => CONTENT): Promise<unknown> {
  const line = typeof message === "string" ? message : JSON.stringify(message);
  const answer = await answerLine(line, read);
  return answer === null ? null : JSON.parse(answer);
}

test("it speaks the version that its client asks for, or its own", async () => {
  for (const [asked, answered] of [
    ["2024-11-05", "2024-11-05"],
    ["2025-11-25", "2025-11-25"],
    ["2031-01-01", "2025-06-18"],
  ]) {
    const params = { protocolVersion: asked, capabilities: {}, clientInfo: {} };
    assert.deepEqual(await ask({ jsonrpc: "2.0", id: 0, method: "initialize", params }), {
      jsonrpc: "2.0",
      id: 0,
      result: {
        protocolVersion: answered,
        capabilities: { tools: {} },
        serverInfo: { name: "autocode", version: "1" },
      },
    });
  }
});

test("its one tool answers with the file as it is now", async () => {
  const listed = (await ask({ jsonrpc: "2.0", id: "a", method: "tools/list" })) as {
    result: { tools: { name: string; inputSchema: unknown }[] };
  };
  assert.deepEqual(
    listed.result.tools.map(({ name }) => name),
    ["allowance"],
  );
  const called = { jsonrpc: "2.0", id: 7, method: "tools/call", params: { name: "allowance" } };
  assert.deepEqual(await ask(called), {
    jsonrpc: "2.0",
    id: 7,
    result: { content: [{ type: "text", text: CONTENT.trim() }], isError: false },
  });
  const failing = async () => {
    throw new Error("no such file: /secret/path");
  };
  const text = "The allowance is not known at the moment.";
  assert.deepEqual(await ask(called, failing), {
    jsonrpc: "2.0",
    id: 7,
    result: { content: [{ type: "text", text }], isError: true },
  });
});

test("what asks nothing gets no answer, and nonsense an error", async () => {
  assert.deepEqual(await ask({ jsonrpc: "2.0", id: 1, method: "ping" }), {
    jsonrpc: "2.0",
    id: 1,
    result: {},
  });
  for (const quiet of [
    { jsonrpc: "2.0", method: "notifications/initialized" },
    { jsonrpc: "2.0", id: 1, result: {} },
    [],
  ]) {
    assert.equal(await ask(quiet), null);
  }
  for (const [message, code] of [
    ["{", -32_700],
    ["null", -32_600],
    ["7", -32_600],
    [{ jsonrpc: "2.0", id: 1, method: "resources/list" }, -32_601],
    [{ jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "shell" } }, -32_602],
    [{ jsonrpc: "2.0", id: 1, method: "tools/call" }, -32_602],
  ] as const) {
    const answer = (await ask(message)) as { error: { code: number } };
    assert.equal(answer.error.code, code);
  }
});

test("the program serves from a copy of its file, and ends with its input", async () => {
  const folder = await mkdtemp(join(tmpdir(), "autocode-tool-"));
  try {
    const program = join(folder, "allowance-tool.mts");
    await copyFile(join(import.meta.dirname, "../../worker-agent/allowance-tool.ts"), program);
    const file = join(folder, "allowance.json");
    await writeFile(file, CONTENT);
    const child = spawn(process.execPath, [program, file], {
      env: {},
      stdio: ["pipe", "pipe", "pipe"],
    });
    let errors = "";
    child.stderr.on("data", (bytes: Buffer) => {
      errors += bytes;
    });
    const exited = once(child, "exit");
    child.stdin.write('{"jsonrpc":"2.0","id":1,"method":"tools/list"}\n\n');
    child.stdin.end(
      '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"allowance"}}\n',
    );
    const lines: string[] = [];
    for await (const line of createInterface({ input: child.stdout })) lines.push(line);
    assert.deepEqual(await exited, [0, null]);
    assert.deepEqual(
      lines.map((line) => (JSON.parse(line) as { id: number }).id),
      [1, 2],
    );
    assert.match(lines[1] ?? "", /0\.1000 CAD are left/);
    assert.equal(errors, "");
  } finally {
    await rm(folder, { recursive: true });
  }
});
