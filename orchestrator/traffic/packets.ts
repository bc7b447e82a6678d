/**
 * Packets that a worker's network dropped become records of traffic: one for each destination, port
 * and protocol that the worker tells of at a time, with how many there were since it last did.
 *
 * Invariants: a telling makes one record, however often it arrives: its id comes of its number. An
 * allocation makes `RECORDS_MAX` of them and then one a minute, which is of all the rest, so that a
 * flood of packets fills no store.
 */
import { type Clock, type EpochMs, rfc3339 } from "../runtime/clock.ts";
import { type AllocationId, derivedId, type ProjectId, type TrialId } from "../runtime/ids.ts";
import type { Log } from "../runtime/log.ts";
import type { FlowDraft, FlowSink } from "./sink.ts";

export interface PacketOwner {
  readonly projectId: ProjectId;
  readonly trialId: TrialId;
  readonly allocationId: AllocationId;
  readonly agent: string | null;
}

/** What a worker said, by its own numbers and its own clock: not to be believed unread. */
export interface PacketsTold {
  readonly cursor: number;
  readonly at: string;
  readonly data: Readonly<Record<string, unknown>>;
}

export type RecordPackets = (owner: PacketOwner, told: readonly PacketsTold[]) => Promise<void>;

interface Packets {
  readonly host: string;
  readonly port: number;
  readonly transport: string;
  readonly count: number;
}

interface Tally {
  records: number;
  /** Of what has no record of its own. */
  rest: number;
  restAtMs: EpochMs;
  /** When each destination was last told of. */
  readonly toldAtMs: Map<string, EpochMs>;
}

/** An honest worker tells of 200 destinations, 20 times each (worker-agent/isolate/firewall.ts). */
const RECORDS_MAX = 5_000;
const REST_EVERY_MS = 60_000;
const TALLIES_MAX = 1_000;
/** How often a worker looks, and how far its clock may be from ours. */
const LOOK_MS = 1_000;
const CLOCK_MAX_MS = 3_600_000;
const DETAIL = "The worker's network lets nothing through but the proxy and the gateway";

/** Resolves once all of it is durable, or was told to the log to be lost; throws nothing. */
export function createPacketRecords(
  sink: Pick<FlowSink, "append">,
  { clock, log }: { clock: Clock; log: Log },
): RecordPackets {
  const tallies = new Map<AllocationId, Tally>();
  return record;

  async function record(owner: PacketOwner, told: readonly PacketsTold[]): Promise<void> {
    const tally = tallyOf(owner.allocationId);
    const drafts = told.flatMap((each) => {
      const packets = readPackets(each.data);
      return packets === null ? [] : (draftFor(owner, tally, each, packets) ?? []);
    });
    await Promise.all(
      drafts.map((draft) =>
        sink.append(draft).catch((error: unknown) => {
          log.error({ err: error, flow_id: draft.id }, "dropped packets were not recorded");
        }),
      ),
    );
  }

  /** Those that were told of longest ago are forgotten: their allocations have ended, mostly. */
  function tallyOf(allocationId: AllocationId): Tally {
    const known = tallies.get(allocationId);
    const tally = known ?? { records: 0, rest: 0, restAtMs: 0, toldAtMs: new Map() };
    tallies.delete(allocationId);
    const [oldest] = tallies.keys();
    if (tallies.size >= TALLIES_MAX && oldest !== undefined) tallies.delete(oldest);
    tallies.set(allocationId, tally);
    return tally;
  }

  function draftFor(
    owner: PacketOwner,
    tally: Tally,
    { cursor, at }: PacketsTold,
    packets: Packets,
  ): FlowDraft | null {
    const id = derivedId("flow", owner.allocationId, "packets", String(cursor));
    const now = clock.now();
    const saidMs = Date.parse(at);
    const isNear = Math.abs(now - saidMs) <= CLOCK_MAX_MS;
    const endMs = isNear ? saidMs : now;
    if (tally.records < RECORDS_MAX) {
      tally.records += 1;
      const key = `${packets.transport} ${packets.host} ${packets.port}`;
      const startMs = Math.min(tally.toldAtMs.get(key) ?? endMs - LOOK_MS, endMs);
      tally.toldAtMs.set(key, endMs);
      tally.restAtMs = now;
      return draftOf(owner, id, packets, { startMs, endMs });
    }
    tally.rest += packets.count;
    if (now - tally.restAtMs < REST_EVERY_MS) return null;
    const rest = { host: "*", port: 0, transport: "any", count: tally.rest };
    const startMs = tally.restAtMs;
    tally.rest = 0;
    tally.restAtMs = now;
    return draftOf(owner, id, rest, { startMs, endMs: now });
  }
}

function draftOf(
  owner: PacketOwner,
  id: FlowDraft["id"],
  { host, port, transport, count }: Packets,
  { startMs, endMs }: { startMs: EpochMs; endMs: EpochMs },
): FlowDraft {
  return {
    ...{ id, kind: "packet", engine: "worker", transport, ...owner },
    ...{ startedAtMs: startMs, durationMs: endMs - startMs },
    timings: { dns_ms: null, connect_ms: null, tls_ms: null, first_byte_ms: null },
    client: { address: null, http_version: null },
    server: {
      ...{ host, port, address: host === "*" ? null : host },
      ...{ server_name: null, tls_version: null, http_version: null, certificate_sha256: null },
    },
    ...{ request: null, response: null, messages: null, sentCount: count, receivedCount: 0 },
    decision: {
      ...{ action: "deny", reason: "dropped", rule: null },
      detail: `${DETAIL}: ${count} of ${transport} until ${rfc3339(endMs)}`,
    },
    ...{ credentials: [], callId: null, transferId: null, cost: null, error: null, secrets: [] },
  };
}

/** Null for what is no `egress.dropped` as a worker of ours says it. */
export function readPackets({
  destination,
  protocol,
  packets,
}: PacketsTold["data"]): Packets | null {
  if (typeof destination !== "string" || typeof protocol !== "string") return null;
  if (typeof packets !== "number" || !Number.isSafeInteger(packets) || packets < 1) return null;
  if (!/^[a-z0-9-]{1,20}$/.test(protocol)) return null;
  const [, v6, v4, port] =
    /^(?:\[([0-9a-f:.]{2,45})\]|([0-9.]{7,15})):([0-9]{1,5})$/i.exec(destination) ?? [];
  const host = v6 ?? v4 ?? destination;
  if (port === undefined && !/^(\*|[0-9a-f:.]{2,45})$/i.test(destination)) return null;
  if (Number(port ?? 0) > 65_535) return null;
  return { host, port: Number(port ?? 0), transport: protocol, count: packets };
}
