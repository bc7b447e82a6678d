/**
 * Puts documents into their indices, each under its flow's id: one that is there already stays as
 * it is, however often it is sent.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Client, estypes } from "@elastic/elasticsearch";
import type { FlowRecord } from "../contract/flows.ts";
import type { FlowId } from "../runtime/ids.ts";
import type { Log } from "../runtime/log.ts";
import { type EcsDocument, toDocuments } from "./ecs.ts";
import { indexBase } from "./ecs-templates.ts";
import {
  isItemFinal,
  isTransient,
  itemWords,
  statusOf,
  unavailable,
  wordsOf,
} from "./elasticsearch-faults.ts";
import type { Rejected } from "./traffic.ts";

/** Of one request; the server takes 100 MB. */
const DOCUMENTS_MAX = 1_000;
const LENGTH_MAX = 8 * 2 ** 20;
/** Between tries of what was refused for now: five seconds together. */
const PAUSES_MS = [100, 300, 900, 1_200, 2_500];
const THERE_ALREADY = 409;
const TOO_LARGE = 413;

interface Line {
  readonly id: FlowId;
  readonly index: string;
  /** JSON. */
  readonly source: string;
}

export interface BulkOptions {
  prefix: string;
  /** Told in problems. */
  address: string;
  log: Log;
}

export function createBulk(client: Client, { prefix, address, log }: BulkOptions) {
  return { append };

  /** @throws Problem `unavailable` when something was still refused for now after all tries. */
  async function append(flows: readonly FlowRecord[]): Promise<Rejected> {
    const rejected = new Map<FlowId, string>();
    let batch: Line[] = [];
    let length = 0;
    for (const flow of flows) {
      for (const line of linesOf(flow, rejected)) {
        const isFull = batch.length === DOCUMENTS_MAX || length + line.source.length > LENGTH_MAX;
        if (isFull && batch.length > 0) {
          await send(batch, rejected);
          batch = [];
          length = 0;
        }
        batch.push(line);
        length += line.source.length;
      }
    }
    if (batch.length > 0) await send(batch, rejected);
    return rejected;
  }

  function linesOf(flow: FlowRecord, rejected: Map<FlowId, string>): Line[] {
    const id = flow.id as FlowId;
    let documents: EcsDocument[];
    try {
      documents = toDocuments(flow);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      rejected.set(id, `started_at: no time we can keep: ${flow.started_at}`);
      return [];
    }
    return documents.map(({ what, day, source }) => ({
      id,
      index: indexOf(prefix, what, day),
      source: JSON.stringify(source),
    }));
  }

  /** Until each is there or refused for good; only what was refused for now is sent again. */
  async function send(batch: readonly Line[], rejected: Map<FlowId, string>): Promise<void> {
    let waiting = batch;
    for (const pauseMs of [...PAUSES_MS, null]) {
      const { left, words } = await sendOnce(waiting, rejected);
      if (left.length === 0) return;
      if (pauseMs === null) throw unavailable(address, words);
      log.debug(
        { documents: left.length, reason: words },
        "elasticsearch takes less than was sent",
      );
      waiting = left;
      await sleep(pauseMs);
    }
  }

  async function sendOnce(lines: readonly Line[], rejected: Map<FlowId, string>) {
    let answer: estypes.BulkResponse;
    try {
      answer = await client.bulk({
        operations: lines.flatMap(({ id, index, source }) => [
          JSON.stringify({ create: { _index: index, _id: id } }),
          source,
        ]) as unknown as object[],
      });
    } catch (error) {
      if (isTransient(error)) return { left: lines, words: wordsOf(error) };
      if (statusOf(error) === null) throw error;
      return { left: await halve(error, lines, rejected), words: "" };
    }
    const left: Line[] = [];
    let words = "";
    answer.items.forEach((item, at) => {
      const line = lines[at];
      const { status, error } = item.create ?? { status: 500 };
      if (line === undefined || error === undefined || status === THERE_ALREADY) return;
      if (isItemFinal(status, error)) {
        rejected.set(line.id, itemWords(error));
      } else {
        left.push(line);
        words = `${status}: ${itemWords(error)}`;
      }
    });
    return { left, words };
  }

  /** A request that is refused as a whole for one of its lines: which, is found by halves. */
  async function halve(
    error: unknown,
    lines: readonly Line[],
    rejected: Map<FlowId, string>,
  ): Promise<Line[]> {
    const status = statusOf(error);
    if (status !== 400 && status !== TOO_LARGE) throw unavailable(address, wordsOf(error), status);
    const [first] = lines;
    if (lines.length === 1 && first !== undefined) {
      rejected.set(first.id, wordsOf(error));
      return [];
    }
    const middle = Math.ceil(lines.length / 2);
    await send(lines.slice(0, middle), rejected);
    await send(lines.slice(middle), rejected);
    return [];
  }
}

/** "autocode-flows-meta-2026.11.21": a record's place depends on the record alone. */
export function indexOf(prefix: string, what: EcsDocument["what"], day: string): string {
  return `${indexBase(prefix, what)}-${day.slice(0, 4)}.${day.slice(4, 6)}.${day.slice(6)}`;
}
