/** One life of a gateway whose database fails it, and a model server that knows what it did. */
import type { Database } from "../../orchestrator/db/database.ts";
import { createKeys } from "../../orchestrator/keys/postgres.ts";
import { createLedger } from "../../orchestrator/ledger/postgres.ts";
import type { Clock } from "../../orchestrator/runtime/clock.ts";
import { createIds } from "../../orchestrator/runtime/ids.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import type { Random } from "../../orchestrator/runtime/random.ts";
import { createPostgresCalls } from "../../proxy/gateway/calls-postgres.ts";
import { createGateway } from "../../proxy/gateway/server.ts";
import type { Upstream } from "../../proxy/gateway/upstream.ts";
import { PROVIDER } from "../chaos/payer.ts";
import type { Billed } from "../chaos/provider.ts";
import { createFaultyDatabase, type FateTally } from "./faulty-database.ts";
import type { Turnstile } from "./turnstile.ts";

const FAULTY_ONE_IN = 5;
const LATE_MS = 3;
/** A call's reservation outlives any run. */
const TIMEOUT_MS = 3_600_000;

/** Sockets and timers have an order of their own: operations pass as they come. */
const open: Turnstile = {
  pass: (operation) => operation(),
  later: (others, operation) => {
    setTimeout(() => void operation().catch(() => undefined), others * LATE_MS);
  },
  idle: async () => {},
};

export interface LifeParts {
  database: Database;
  random: Random;
  clock: Clock;
  fates: FateTally;
  upstream: Upstream;
}

export async function openLife({ database, random, clock, fates, upstream }: LifeParts) {
  const faults = { random, turnstile: open, oneIn: FAULTY_ONE_IN, tally: fates };
  const db = createFaultyDatabase(database, faults);
  const ids = createIds(clock, random);
  const ledger = createLedger(db, clock);
  const gateway = createGateway(
    {
      keys: createKeys(db, clock, ids, random),
      random,
      ledger,
      calls: createPostgresCalls(db, ledger),
      upstream,
      providers: () => ({
        name: PROVIDER,
        baseUrl: "http://127.0.0.1:1",
        apiKey: null,
        authStyle: "bearer",
        isHosted: false,
        hasContinuousUsage: false,
        hasTokenCount: false,
      }),
      dayAccount: async () => null,
      ids,
      clock,
      log: createLog("silent"),
    },
    { callsPerKeyMax: 1_000, callTimeoutMs: TIMEOUT_MS },
  );
  const { url } = await gateway.listen();
  return { url, isDead: db.isDead, die };

  /** As SIGKILL: nothing more reaches the database, whoever still tries. */
  async function die(): Promise<void> {
    db.kill();
    await gateway.close(0);
  }
}

/** A model server in the same process, which notes what it would put on its bill. */
export function createKnowingUpstream(random: Random, billed: Billed[]): Upstream {
  return {
    send: (request, listener) => {
      let isOver = false;
      const fate = random.below(8);
      const { stream = false } = JSON.parse(request.body.toString("utf8")) as { stream?: boolean };
      setImmediate(() => {
        if (isOver) return;
        if (fate === 0) return listener.onError(new Error("connection refused"));
        if (fate === 1) {
          listener.onHead(500, { "content-type": "application/json" });
          listener.onData(Buffer.from('{"error":{"message":"no"}}'));
          return listener.onEnd();
        }
        const one = {
          callId: String(request.headers["x-request-id"]),
          inputTokens: 1 + random.below(100),
          outputTokens: random.below(16),
          isWhole: true,
        };
        billed.push(one);
        answer(one, stream);
      });
      return {
        isSent: () => true,
        abort: () => {
          isOver = true;
        },
        pause() {},
        resume() {},
      };

      function answer({ inputTokens, outputTokens }: Billed, isStream: boolean): void {
        const usage = {
          prompt_tokens: inputTokens,
          completion_tokens: outputTokens,
          total_tokens: inputTokens + outputTokens,
        };
        const type = isStream ? "text/event-stream" : "application/json";
        listener.onHead(200, { "content-type": type });
        const parts = isStream
          ? [
              `data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n`,
              `data: ${JSON.stringify({ id: "c", choices: [], usage })}\n\ndata: [DONE]\n\n`,
            ]
          : [JSON.stringify({ id: "c", choices: [{ message: { content: "hi" } }], usage })];
        for (const part of parts) listener.onData(Buffer.from(part));
        listener.onEnd();
      }
    },
    close: async () => {},
  };
}
