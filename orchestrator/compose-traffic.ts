/**
 * Builds the record of traffic: the store, the sinks of this process's doors, and what carries the
 * records from one to the other. For the orchestrator, and for gateways and egress proxies that run
 * as processes of their own.
 */
import { hostname } from "node:os";
import type { Config } from "./config.ts";
import type { FlowRecord, TrafficSource } from "./contract/flows.ts";
import type { Finding } from "./contract/system.ts";
import type { Database } from "./db/database.ts";
import type { Layout } from "./projects/layout.ts";
import { startBackground } from "./runtime/background.ts";
import { systemClock as clock } from "./runtime/clock.ts";
import { createIds } from "./runtime/ids.ts";
import type { Log } from "./runtime/log.ts";
import { systemRandom as random } from "./runtime/random.ts";
import type { Secrets } from "./secrets/secrets.ts";
import { createElasticsearchTraffic } from "./traffic/elasticsearch.ts";
import { createFlowSink, type SpooledFlowSink } from "./traffic/flow-sink.ts";
import { createKnownSecrets } from "./traffic/known-secrets.ts";
import { openLateSpool } from "./traffic/late-spool.ts";
import { createPostgresTraffic } from "./traffic/postgres.ts";
import { createRedactor, type Redactor } from "./traffic/redact.ts";
import type { KnownSecrets } from "./traffic/secret-forms.ts";
import { createShipper } from "./traffic/shipper.ts";
import type { TrafficSources } from "./traffic/sources.ts";
import { createTrafficSources } from "./traffic/sources-postgres.ts";
import { watchStored } from "./traffic/stored.ts";
import type { Traffic } from "./traffic/traffic.ts";

const ids = createIds(clock, random);
const MESSAGE_BYTES_MAX = 2 ** 20;
const WAITING_BYTES_MAX = 64 * 2 ** 20;

export interface TrafficParts {
  db: Database;
  layout: Pick<Layout, "spool">;
  /** Null: this process has none. */
  secrets: Pick<Secrets, "get" | "list"> | null;
  /** Keys that are not among the secrets. */
  ownKeys: () => readonly string[];
  log: Log;
}

export interface OpenedTraffic extends AsyncDisposable {
  traffic: Traffic;
  sources: TrafficSources;
  onStored(listener: (flows: readonly FlowRecord[]) => void): Disposable;
  /** A sink for a door of this process, open until the whole is closed. */
  openSink(door: TrafficSource["door"], engine: TrafficSource["engine"]): Promise<SpooledFlowSink>;
  /** What a body of JSON becomes in the record: replays compare after it. */
  redact(json: string): string;
  /** Carries and redacts from now on; each process for itself. */
  start(): Promise<void>;
  describe(): Promise<Finding>;
}

type Settings = Pick<Config, "egress" | "elasticsearch">;

export async function openTraffic(
  { db, layout, secrets, ownKeys, log }: TrafficParts,
  config: Settings,
): Promise<OpenedTraffic> {
  await using opening = new AsyncDisposableStack();
  const store =
    config.elasticsearch === null
      ? createPostgresTraffic(db, { clock, log })
      : await createElasticsearchTraffic(config.elasticsearch, { clock, log });
  const { traffic, onStored } = watchStored(opening.use(store));
  const sources = createTrafficSources(db, clock);
  const known = createKnownSecrets(db, secrets, ownKeys);
  const spoolDir = layout.spool;
  const { keptBytesMax } = config.egress;
  const shipping = { spoolDir, store: traffic, sources, log, clock, random };
  const shipper = createShipper(shipping, { keptBytesMax });
  // Closed after the sinks: what they had left goes on its way.
  opening.defer(async () => void (await shipper.drain().catch(() => undefined)));
  const sinks: SpooledFlowSink[] = [];
  let redactor: { of: KnownSecrets; use: Redactor } | null = null;
  const opened = opening.move();
  return {
    ...{ traffic, sources, onStored, openSink, redact, start, describe },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };

  async function openSink(
    door: TrafficSource["door"],
    engine: TrafficSource["engine"],
  ): Promise<SpooledFlowSink> {
    const source = { id: ids.next("process"), door, engine, host: hostname() };
    const { spoolBytesMax: bytesMax, bodyBytesMax } = config.egress;
    const spool = await openLateSpool({
      ...{ dir: spoolDir, source: { ...source, startedAtMs: clock.now() }, bytesMax, log },
    });
    const sink = createFlowSink(
      { spool, sources, knownSecrets: known.read, log },
      { bodyBytesMax, messageBytesMax: MESSAGE_BYTES_MAX, waitingBytesMax: WAITING_BYTES_MAX },
    );
    sinks.push(opened.use(sink));
    return sink;
  }

  function redact(json: string): string {
    const secrets = known.read();
    if (redactor?.of !== secrets) redactor = { of: secrets, use: createRedactor(secrets) };
    return redactor.use.begin([]).body(json, "application/json", false);
  }

  async function start(): Promise<void> {
    // Nothing is recorded before it is known what must not be.
    await known.task.activate();
    const tasks = [known.task, shipper.task, ...sinks.map(({ beat }) => beat)];
    const background = startBackground(tasks, log);
    opened.defer(() => background.stop());
  }

  async function describe(): Promise<Finding> {
    const part = "traffic";
    const fault =
      shipper.fault() ?? sinks.map((sink) => sink.fault()).find((each) => each !== null);
    try {
      const where = await traffic.describe();
      if (fault === null || fault === undefined) {
        return { part, status: "ok", detail: where, next_step: null };
      }
      const next = "make room, or the store able to take records; nothing is lost meanwhile";
      return { part, status: "warn", detail: `${where}; ${fault}`, next_step: next };
    } catch (error) {
      const detail = `${traffic.name} does not answer: ${(error as Error).message}`;
      return { part, status: "warn", detail, next_step: "start it; records wait in the spool" };
    }
  }
}
