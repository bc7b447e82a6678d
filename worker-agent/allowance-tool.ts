/**
 * A Model Context Protocol server over standard input and output, with one tool: `allowance`.
 *
 * `node allowance-tool.ts <allowance file>`, started by the agent's CLI as the agent's user, from a
 * copy of this file alone: it imports nothing of ours. It holds no key and asks nobody: the
 * worker-agent keeps the file up to date.
 */
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";

/** The newest one is answered to a client that asks for one we do not know. */
const PROTOCOL_VERSIONS = ["2025-06-18", "2025-11-25", "2025-03-26", "2024-11-05"];

const TOOL = {
  name: "allowance",
  title: "Allowance",
  description: "How much money and time you have left for this task.",
  inputSchema: { type: "object", properties: {}, additionalProperties: false },
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true },
};

type Message = { jsonrpc?: unknown; id?: unknown; method?: unknown; params?: unknown };

/** The answer to one line; null where none is due: a notification, or an answer of the client's. */
export async function answerLine(
  line: string,
  readAllowance: () => Promise<string>,
): Promise<string | null> {
  let message: Message;
  try {
    message = JSON.parse(line) as Message;
  } catch {
    return failure(null, -32_700, "Parse error");
  }
  if (typeof message !== "object" || message === null) {
    return failure(null, -32_600, "Invalid request");
  }
  const { id, method } = message;
  if (typeof method !== "string" || id === undefined) return null;
  switch (method) {
    case "initialize":
      return success(id, {
        protocolVersion: versionFor(message.params),
        capabilities: { tools: {} },
        serverInfo: { name: "autocode", version: "1" },
      });
    case "ping":
      return success(id, {});
    case "tools/list":
      return success(id, { tools: [TOOL] });
    case "tools/call":
      return call(id, message.params, readAllowance);
    default:
      return failure(id, -32_601, `Method not found: ${method.slice(0, 100)}`);
  }
}

async function call(
  id: unknown,
  params: unknown,
  readAllowance: () => Promise<string>,
): Promise<string> {
  if (field(params, "name") !== TOOL.name) return failure(id, -32_602, "Unknown tool");
  try {
    const text = (await readAllowance()).trim();
    return success(id, { content: [{ type: "text", text }], isError: false });
  } catch {
    const text = "The allowance is not known at the moment.";
    return success(id, { content: [{ type: "text", text }], isError: true });
  }
}

function versionFor(params: unknown): unknown {
  const asked = field(params, "protocolVersion");
  return PROTOCOL_VERSIONS.find((version) => version === asked) ?? PROTOCOL_VERSIONS[0];
}

function field(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null) return undefined;
  return (value as Record<string, unknown>)[name];
}

function success(id: unknown, result: unknown): string {
  return JSON.stringify({ jsonrpc: "2.0", id, result });
}

function failure(id: unknown, code: number, message: string): string {
  return JSON.stringify({ jsonrpc: "2.0", id, error: { code, message } });
}

if (import.meta.main) {
  const [, , file = ""] = process.argv;
  for await (const line of createInterface({ input: process.stdin })) {
    if (line.trim() === "") continue;
    const answer = await answerLine(line, () => readFile(file, "utf8"));
    if (answer !== null) process.stdout.write(`${answer}\n`);
  }
}
