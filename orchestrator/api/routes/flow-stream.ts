/**
 * The live tail of flows: what this process's shipper has stored is told at once; what other
 * processes stored is found by asking the store again and again for the newest.
 *
 * A flow is told at least once: a reader that comes back names the time it had reached and gets
 * what ended a while before it too, to be told apart by the flows' ids. A flow of another process
 * that began long before the newest ones is found by the list alone. A reader that does not keep
 * up is cut off, and comes back.
 */
import type { FastifyReply, FastifyRequest } from "fastify";
import type { FlowRecord, FlowSummary } from "../../contract/flows.ts";
import { monotonicMs, rfc3339 } from "../../runtime/clock.ts";
import { matchesQuery, summaryOf } from "../../traffic/filter.ts";
import type { FlowQuery } from "../../traffic/traffic.ts";
import type { Services } from "../services.ts";
import { type EventStream, endingStream, openEventStream } from "../sse.ts";
import { createWake } from "../wake.ts";
import type { StreamSettings } from "./trial-streams.ts";

const PAGE = 200;
const PAGES_MAX = 5;
const LOOK_BACK_MS = 600_000;
/** How long after a flow's end its record may arrive in the store. */
const LATE_MS = 60_000;
/** A look at the store takes the place of so many polls of other streams: it is dearer. */
const POLLS = 4;
/** Some of the shipper's batches: even who reads fast gets a batch at once. */
const WAITING_MAX = 5_000;
const REMEMBERED = 20_000;

type Needed = Pick<Services, "traffic" | "flows" | "clock">;

/** `after`: the time a reader had reached, null for one that comes new. */
export async function streamFlows(
  services: Needed,
  { query, after }: { query: FlowQuery; after: number | null },
  { request, reply }: { request: FastifyRequest; reply: FastifyReply },
  settings: StreamSettings,
): Promise<void> {
  const { traffic, flows, clock } = services;
  const seen = new Set<string>();
  const waiting: FlowSummary[] = [];
  let reached = after ?? clock.now();
  const wake = createWake();
  using _subscription = flows.onStored((stored) => {
    for (const flow of stored) if (matchesQuery(query, flow)) take(summaryOf(flow));
    wake.ring();
  });
  // Before the stream begins, so that a store that is away is told as a problem.
  await look((flow) => after !== null && endOf(flow) >= after - LATE_MS);
  const stream = openEventStream(request, reply, settings);
  await endingStream(stream, request, async () => {
    let lookedAtMs = monotonicMs();
    while (!stream.signal.aborted) {
      await tell(stream);
      await wake.wait(settings.pollMs, stream.signal);
      if (monotonicMs() - lookedAtMs < settings.pollMs * POLLS) continue;
      await look(() => true);
      lookedAtMs = monotonicMs();
    }
  });

  /** Takes what is new among the newest; what `isWanted` refuses counts as told. */
  async function look(isWanted: (flow: FlowSummary) => boolean): Promise<void> {
    const since = rfc3339(Math.min(reached, clock.now()) - LOOK_BACK_MS);
    const wanted = query.since === undefined || query.since < since ? { ...query, since } : query;
    const found: FlowSummary[] = [];
    let cursor: string | null = null;
    for (let pages = 0; pages < PAGES_MAX; pages++) {
      const page = await traffic.search(wanted, {
        limit: PAGE,
        ...(cursor === null ? {} : { cursor }),
      });
      const fresh = page.flows.filter(({ id }) => !seen.has(id));
      found.push(...fresh);
      cursor = page.next_cursor;
      if (cursor === null || fresh.length === 0) break;
    }
    for (const flow of found.reverse()) {
      if (isWanted(flow)) take(flow);
      else remember(flow.id);
    }
  }

  function take(flow: FlowSummary): void {
    if (seen.has(flow.id)) return;
    remember(flow.id);
    waiting.push(flow);
    if (waiting.length <= WAITING_MAX) return;
    request.log.info({ route: request.routeOptions.url }, "slow reader cut off");
    waiting.length = 0;
    request.raw.destroy();
  }

  function remember(id: string): void {
    seen.add(id);
    if (seen.size > REMEMBERED) seen.delete(seen.values().next().value ?? "");
  }

  async function tell(stream: EventStream): Promise<void> {
    for (let flow = waiting.shift(); flow !== undefined; flow = waiting.shift()) {
      reached = Math.max(reached, endOf(flow));
      await stream.send({ id: String(Math.floor(reached)), data: JSON.stringify(flow) });
    }
  }
}

function endOf(flow: Pick<FlowRecord, "started_at" | "duration_ms">): number {
  return Date.parse(flow.started_at) + flow.duration_ms;
}
