/**
 * One exchange: decided, then carried, then recorded, once, however it ends.
 *
 * Invariant: nothing of a request leaves before the guard has said so, and what leaves is what the
 * guard gave, framed by us.
 */
import type { EgressSession, RequestDecision } from "../guard.ts";
import { denied } from "../refusal.ts";
import { type ExchangeDependencies, openRequestFlow, refuse } from "./answering.ts";
import type { ClientExchange, Denial } from "./client.ts";
import type { Flow } from "./flow.ts";
import { carry } from "./passage.ts";

/** Serves one request to its end; throws nothing. */
export async function serveExchange(
  deps: ExchangeDependencies,
  session: EgressSession,
  client: ClientExchange,
): Promise<void> {
  const place = session.places.enter("exchange");
  if (place.outcome === "refuse") {
    return refuse(session, client, openRequestFlow(deps, client, "http", null), place);
  }
  try {
    await serve(deps, session, client, openRequestFlow(deps, client, "http", place));
  } finally {
    place.leave();
  }
}

async function serve(
  deps: ExchangeDependencies,
  session: EgressSession,
  client: ClientExchange,
  flow: Flow,
): Promise<void> {
  const decided = await decide(deps, session, client, flow);
  if (decided === null) return;
  switch (decided.outcome) {
    case "refuse":
      return refuse(session, client, flow, decided);
    case "answer":
      return answer(session, client, flow, decided);
    case "forward":
      return carry(deps, session, client, flow, decided);
  }
}

/** What the guard says; null when the worker has left meanwhile. */
export async function decide(
  { gate, log }: Pick<ExchangeDependencies, "gate" | "log">,
  session: EgressSession,
  client: ClientExchange,
  flow: Flow,
): Promise<RequestDecision | null> {
  if (client.denial !== null) return { outcome: "refuse", ...client.denial };
  const isBehind = gate.wait();
  if (isBehind !== null) await isBehind;
  let decided: RequestDecision;
  try {
    decided = await session.request(client.head);
  } catch (error) {
    log.error({ err: error, flow_id: flow.id }, "egress request not decided");
    decided = { outcome: "refuse", ...UNDECIDABLE };
  }
  if (!client.isGone()) return decided;
  flow.decision = decided.decision;
  flow.error = "The worker left before it was answered";
  session.record(flow.draft(session));
  return null;
}

const { decision, refusal } = denied(
  "session_ended",
  "The proxy could not read the policy just now: nothing passes until it can. Try again.",
);
const UNDECIDABLE: Denial = { decision, refusal: { ...refusal, status: 503 } };

/** From the record: as it was answered then. */
function answer(
  session: EgressSession,
  client: ClientExchange,
  flow: Flow,
  { decision, status, headers, body }: Extract<RequestDecision, { outcome: "answer" }>,
): void {
  flow.decision = decision;
  flow.response = { status, headers };
  const hasBody = client.head.method !== "HEAD" && status !== 204 && status !== 304;
  const framed = headers.filter(([name]) => !/^(content-length|transfer-encoding)$/i.test(name));
  const sent = hasBody ? [...framed, ["Content-Length", String(body.length)] as const] : headers;
  const out = client.begin(status, sent, hasBody);
  if (out === null) {
    flow.error = "The record's answer cannot be told to the worker";
    client.abort();
    session.record(flow.draft(session));
    return;
  }
  if (hasBody && body.length > 0) {
    out.write(body);
    flow.responseBody?.add(body);
  }
  client.finish([]);
  session.record(flow.draft(session));
}
