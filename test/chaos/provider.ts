/**
 * A model server as a process of its own, which keeps its own count of what it did: for each
 * call, by the id that the gateway gives it, the tokens it would put on its bill.
 *
 *     node provider.ts      prints its address; GET /count answers what it did
 *
 * A stream that is cut off is billed for what was generated, as providers do.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { pathToFileURL } from "node:url";

export interface Billed {
  callId: string;
  inputTokens: number;
  outputTokens: number;
  isWhole: boolean;
}

const INPUT_TOKENS = 100;
const CHUNK_TOKENS = 4;

export interface ProviderCount {
  calls: Billed[];
}

export async function openProvider(paceMs: number) {
  const calls: Billed[] = [];
  const server = createServer((incoming, response) => {
    if (incoming.method === "GET") {
      response.end(JSON.stringify({ calls } satisfies ProviderCount));
      return;
    }
    void answer(incoming, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, calls, close: () => server.close() };

  async function answer(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    let text = "";
    for await (const chunk of incoming.setEncoding("utf8")) text += chunk;
    const asked = JSON.parse(text) as Asked;
    const { stream = false, max_tokens: max } = asked;
    const isTold = asked.stream_options?.continuous_usage_stats === true;
    const billed: Billed = {
      callId: String(incoming.headers["x-request-id"]),
      inputTokens: INPUT_TOKENS,
      outputTokens: 0,
      isWhole: false,
    };
    calls.push(billed);
    response.on("error", () => undefined);
    // Some answers are short, some as long as they may be.
    const tokens = calls.length % 3 === 0 ? max : Math.ceil(max / 3);
    if (stream) response.writeHead(200, { "content-type": "text/event-stream" });
    while (billed.outputTokens < tokens && !response.destroyed) {
      const step = Math.min(CHUNK_TOKENS, tokens - billed.outputTokens);
      billed.outputTokens += step;
      const usage = isTold ? { usage: usageOf(billed) } : {};
      const choices = [{ index: 0, delta: { content: "word" } }];
      if (stream) response.write(event({ choices, ...usage }));
      await new Promise((resolve) => setTimeout(resolve, paceMs));
    }
    billed.isWhole = !response.destroyed;
    const usage = usageOf(billed);
    if (stream) {
      response.write(event({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] }));
      response.end(`${event({ choices: [], usage })}data: [DONE]\n\n`);
      return;
    }
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ id: "c", choices: [{ message: { content: "words" } }], usage }));
  }
}

interface Asked {
  stream?: boolean;
  max_tokens: number;
  stream_options?: { continuous_usage_stats?: boolean };
}

function usageOf({ inputTokens, outputTokens }: Billed) {
  return {
    prompt_tokens: inputTokens,
    completion_tokens: outputTokens,
    total_tokens: inputTokens + outputTokens,
  };
}

function event(value: object): string {
  return `data: ${JSON.stringify({ id: "c", ...value })}\n\n`;
}

/** What a call cost by the provider's own count, at `PRICE`. */
export function costOf({ inputTokens, outputTokens }: Billed): bigint {
  return BigInt(inputTokens) + 2n * BigInt(outputTokens);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const { url } = await openProvider(Number(process.argv[2] ?? 2));
  process.stdout.write(`${url}\n`);
}
