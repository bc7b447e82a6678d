/** Clients that call through whichever gateway, again and again, until the budget is gone. */
import { setTimeout as sleep } from "node:timers/promises";
import { Agent, request } from "undici";
import type { Random } from "../../orchestrator/runtime/random.ts";

export interface CallerTally {
  answered: number;
  /** Streams and answers that broke off under the client. */
  broken: number;
  busy: number;
  unavailable: number;
  refused: number;
}

export interface CallersOptions {
  count: number;
  url: () => string | null;
  secret: string;
  random: Random;
  /** Asked before each call: whether to go on. */
  goesOn: () => boolean;
  /** What a 503 said to come back after. */
  onUnavailable?: (retryAfter: string | undefined) => void;
}

const OUTPUT_TOKENS = 48;
/** As clients do that are told to come back later; who was served comes back at once. */
const PAUSE_MIN_MS = 200;
const PAUSE_MORE_MS = 600;

export function newCallerTally(): CallerTally {
  return { answered: 0, broken: 0, busy: 0, unavailable: 0, refused: 0 };
}

/** Resolves when every caller has been told that the budget is gone, or is to stop. */
export async function runCallers(options: CallersOptions, tally: CallerTally): Promise<void> {
  const { count, random } = options;
  const agent = new Agent({ connections: count, bodyTimeout: 20_000, headersTimeout: 20_000 });
  await Promise.all(Array.from({ length: count }, (_, at) => callAgainAndAgain(at)));
  await agent.destroy();

  async function callAgainAndAgain(at: number): Promise<void> {
    while (options.goesOn()) {
      const url = options.url();
      const next = url === null ? "later" : await callOnce(url, at).catch(broken);
      if (next === "gone") return;
      if (next === "later") await sleep(PAUSE_MIN_MS + random.below(PAUSE_MORE_MS));
    }
  }

  function broken(): "later" {
    tally.broken += 1;
    return "later";
  }

  async function callOnce(url: string, at: number): Promise<"again" | "later" | "gone"> {
    const { statusCode, headers, body } = await request(`${url}/v1/chat/completions`, {
      method: "POST",
      dispatcher: agent,
      headers: {
        authorization: `Bearer ${options.secret}`,
        "content-type": "application/json",
      },
      body: JSON.stringify({
        model: "normal",
        messages: [{ role: "user", content: "hello" }],
        max_tokens: OUTPUT_TOKENS,
        stream: at % 2 === 0,
      }),
    });
    const text = await body.text();
    switch (statusCode) {
      case 200:
        tally.answered += 1;
        return "again";
      case 403:
        tally.refused += 1;
        return "gone";
      case 429:
        tally.busy += 1;
        return "later";
      case 502:
        return broken();
      case 503:
        tally.unavailable += 1;
        options.onUnavailable?.(headers["retry-after"]?.toString());
        return "later";
      default:
        throw new Error(`${statusCode}: ${text.slice(0, 300)}`);
    }
  }
}
