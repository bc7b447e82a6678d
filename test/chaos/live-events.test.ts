/**
 * Goal: whoever follows events at one orchestrator sees what another one writes, soon; and goes on
 * at that one when the first is killed, with nothing missed and nothing twice.
 *
 * Method: two real processes on one database. A reader of the stream of all trials, as a browser
 * is, and `autocode trial logs --follow`; the one that both ask is killed; what they were told is
 * held against the table.
 */
import assert from "node:assert/strict";
import { cp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { createParser } from "eventsource-parser";
import type { TrialEvent } from "../../orchestrator/contract/events.ts";
import type { Trial } from "../../orchestrator/contract/trials.ts";
import { rows } from "../../orchestrator/db/rows.ts";
import { openTestDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { openReplicas, type Replica, type Replicas } from "../support/replicas.ts";
import { writeTaskFolder } from "../support/trial-world.ts";

/** Far more than a stream takes on a machine that is not starved. */
const SOON_MS = 30_000;
const TRIALS = 4;

test("events of one orchestrator are followed at the other, across its death", async (t) => {
  await using database = await openTestDatabase();
  await using replicas = await openReplicas({ databaseUrl: database.url, scripts: {} });
  const asked = await replicas.start();
  const other = await replicas.start();
  await makeProject(replicas);
  await using reader = createReader();
  let leaving = reader.follow(asked, await replicas.token(asked));
  const watched = await create(replicas, other, "watched");
  const logs = replicas.cli("trial", "logs", watched, "--follow");

  const writtenMs = performance.now();
  const first = await create(replicas, other, "first");
  await eventually(() => reader.of(first).length, Boolean, SOON_MS);
  t.diagnostic(`seen ${Math.round(performance.now() - writtenMs)} ms after it was asked for`);
  // The command asks the first orchestrator that answers, which is the one that is killed.
  await asked.kill9();
  await leaving;
  for (let number = 0; number < TRIALS; number++) await create(replicas, other, `away-${number}`);
  leaving = reader.follow(other, await replicas.token(other));
  for (let number = 0; number < TRIALS; number++) await create(replicas, other, `on-${number}`);
  const key = "stop-watched";
  assert.equal((await replicas.post(other, `trials/${watched}/stop`, { key })).status, 200);
  const ended = await logs;
  assert.equal(ended.exit, 0, ended.err);
  const written = await rows<{ seq: string; trial_id: string; type: string }>(
    database.sql,
    sql`select seq, trial_id, type from event order by seq`,
  );
  const all = written.map(({ seq }) => Number(seq));
  await eventually(
    () => reader.seqs().length,
    (count) => count >= all.length,
    SOON_MS,
  );
  assert.deepEqual(reader.seqs(), all);
  const told = ended.out.trimEnd().split("\n");
  const ofWatched = written.filter(({ trial_id: id }) => id === watched).map(({ type }) => type);
  assert.deepEqual(
    told.map((line) => line.split(/ +/)[1]),
    ofWatched,
  );
  assert.equal(await other.stop(), 0, other.output());
  await leaving;
});

/** A browser's way with a stream: it goes on after the last id that it saw. */
function createReader() {
  const events: TrialEvent[] = [];
  const closing = new AbortController();
  let lastId: string | undefined;
  return {
    follow,
    seqs: () => events.map(({ seq }) => seq),
    of: (id: string) => events.filter(({ trial_id: trial }) => trial === id),
    [Symbol.asyncDispose]: async () => closing.abort(),
  };

  /** Until that orchestrator is gone. */
  async function follow({ url }: Replica, token: string): Promise<void> {
    const headers: Record<string, string> = {
      accept: "text/event-stream",
      authorization: `Bearer ${token}`,
    };
    if (lastId !== undefined) headers["last-event-id"] = lastId;
    const parser = createParser({
      onEvent: ({ id, data }) => {
        events.push(JSON.parse(data) as TrialEvent);
        lastId = id;
      },
    });
    try {
      const address = `${url}/api/v1/events?after_seq=0`;
      const answer = await fetch(address, { headers, signal: closing.signal });
      const text = (answer.body ?? new ReadableStream()).pipeThrough(new TextDecoderStream());
      for await (const chunk of text) parser.feed(chunk);
    } catch (error) {
      // Killed in the middle of its answer.
      if (!(error instanceof Error)) throw error;
    }
  }
}

/** A trial that no worker fits, so that it waits until somebody stops it. */
async function create(replicas: Replicas, replica: Replica, key: string): Promise<string> {
  const body = { project: "wide", agent: "aider", pair: "scripted", task: "task" };
  const answer = await replicas.post(replica, "trials", { body, key });
  assert.equal(answer.status, 201, answer.text);
  return (JSON.parse(answer.text) as Trial).id;
}

async function makeProject(replicas: Replicas): Promise<void> {
  const path = join(replicas.folder, "wide.yaml");
  await writeFile(
    path,
    "project: wide\ncurrency: CAD\nbudget: { total: 1, per_trial: 0.01 }\nagents: [aider]\n" +
      "pairs: [scripted]\nworkers: { gpus: 64 }\ntasks: [task]\n",
  );
  const folder = await writeTaskFolder();
  await cp(folder, replicas.folder, { recursive: true });
  await rm(folder, { recursive: true });
  const applied = await replicas.cli("project", "apply", "-p", path);
  assert.equal(applied.exit, 0, applied.err);
}
