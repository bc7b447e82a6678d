/** Goal: a live stream loses and repeats nothing, whoever reconnects, and ends with its trial. */
import assert from "node:assert/strict";
import { appendFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test from "node:test";
import { createParser, type EventSourceMessage } from "eventsource-parser";
import { createApi } from "../../../orchestrator/api/server.ts";
import type { TrialId } from "../../../orchestrator/runtime/ids.ts";
import { type ApiFixture, openApiServices } from "../../support/api-services.ts";

test("events of a trial", async (t) => {
  await using fixture = await openApiServices();
  await using server = await listen(fixture);
  const id = newTrial(fixture);
  fixture.emit(id, "trial.note", { level: "info", message: "two\nlines" });

  await t.test("resume after the last one seen, then go on as they happen", async () => {
    const first = await server.open(`/api/v1/trials/${id}/events`);
    const seen = [await first.next(), await first.next()];
    assert.deepEqual(
      seen.map((event) => event.id),
      ["1", "2"],
    );
    assert.equal(JSON.parse(seen[1]?.data ?? "").data.message, "two\nlines");
    first.close();

    fixture.emit(id, "worker.step", { step: "enrolled" });
    const second = await server.open(`/api/v1/trials/${id}/events`, { "last-event-id": "2" });
    assert.equal((await second.next()).id, "3");
    fixture.emit(id, "worker.step", { step: "workspace_ready" });
    assert.equal((await second.next()).id, "4");
    assert.ok(await second.heartbeat());

    fixture.moveTo(id, { state: "succeeded", verdict: "passed" });
    assert.equal(JSON.parse((await second.next()).data).data.to, "succeeded");
    assert.equal((await second.next()).event, "end");
    assert.ok(await second.ended());
  });

  await t.test("a reader that comes back to the end is told not to come again", async () => {
    const headers = { ...server.headers, "last-event-id": "5" };
    const response = await fetch(`${server.url}/api/v1/trials/${id}/events`, { headers });
    assert.equal(response.status, 204);
  });

  await t.test("an unknown trial is a problem, not a stream", async () => {
    const unknown = fixture.ids.next("trial");
    const response = await fetch(`${server.url}/api/v1/trials/${unknown}/events`, {
      headers: server.headers,
    });
    assert.equal(response.status, 404);
    assert.match(response.headers.get("content-type") ?? "", /^application\/problem\+json/);
  });
});

test("events of all trials start from now", async () => {
  await using fixture = await openApiServices();
  await using server = await listen(fixture);
  newTrial(fixture);
  const stream = await server.open("/api/v1/events");
  const later = newTrial(fixture);
  assert.equal(JSON.parse((await stream.next()).data).trial_id, later);
});

test("the terminal is tailed by whole lines, resumed by byte, and ends with the trial", async () => {
  await using fixture = await openApiServices();
  await using server = await listen(fixture);
  const id = newTrial(fixture);
  const path = join(fixture.folder, "terminal.cast");
  const stream = await server.open(`/api/v1/trials/${id}/terminal`);
  await writeFile(path, '{"version":2}\n[0.1,"o","hal');
  fixture.effects["terminal"] = 1;
  fixture.emit(id, "worker.step", { step: "recording" });
  assert.deepEqual(await stream.next(), line("14", '{"version":2}'));
  await appendFile(path, 'f"]\n');
  assert.deepEqual(await stream.next(), line("31", '[0.1,"o","half"]'));

  const resumed = await server.open(`/api/v1/trials/${id}/terminal`, { "last-event-id": "14" });
  assert.equal((await resumed.next()).id, "31");
  fixture.moveTo(id, { state: "failed" });
  assert.equal((await resumed.next()).event, "end");
  assert.equal((await stream.next()).event, "end");
  assert.ok(await stream.ended());
});

test("closing the server ends its streams at once", async () => {
  await using fixture = await openApiServices();
  const server = await listen(fixture);
  const id = newTrial(fixture);
  const stream = await server.open(`/api/v1/trials/${id}/events`);
  await stream.next();
  await server[Symbol.asyncDispose]();
  assert.ok(await stream.ended());
});

function line(id: string, data: string): EventSourceMessage {
  return { id, event: undefined, data };
}

function newTrial(fixture: ApiFixture): TrialId {
  const id = fixture.ids.next("trial");
  const spec = { project: "demo", agent: "aider", pair: "scripted", task: "fix-add" };
  fixture.trials.set(id, { ...template(), ...spec, id });
  fixture.emit(id, "trial.state", { from: null, to: "queued" });
  return id;

  function template() {
    return {
      agent_version: null,
      experiment_id: null,
      attempt: 1,
      seed: 1,
      priority: 0,
      state: "queued" as const,
      reason: null,
      verdict: null,
      flags: [],
      tries: 0,
      forked_from: null,
      replay_of: null,
      resume_at: null,
      approval_id: null,
      budget: null,
      usage: {
        input_tokens: 0,
        cache_read_tokens: 0,
        cache_write_tokens: 0,
        output_tokens: 0,
        reasoning_tokens: 0,
      },
      call_count: 0,
      is_scripted: true,
      created_at: "2026-11-21T12:00:00.000Z",
      started_at: null,
      ended_at: null,
      duration_ms: null,
    };
  }
}

async function listen(fixture: ApiFixture) {
  const api = createApi(fixture.services, { version: "0.0.0", heartbeatMs: 50, pollMs: 100 });
  const url = await api.listen({ host: "127.0.0.1", port: 0 });
  const headers = {
    authorization: `Bearer ${await fixture.access.issueCliToken()}`,
    accept: "text/event-stream",
  };
  return { url, headers, open, [Symbol.asyncDispose]: async () => void (await api.close()) };

  async function open(path: string, more: Record<string, string> = {}) {
    const left = new AbortController();
    const response = await fetch(url + path, {
      headers: { ...headers, ...more },
      signal: left.signal,
    });
    assert.equal(response.status, 200);
    assert.match(response.headers.get("content-type") ?? "", /^text\/event-stream/);
    const received: EventSourceMessage[] = [];
    let beats = 0;
    let isOver = false;
    let wake = () => {};
    const parser = createParser({
      onEvent: (event) => void received.push(event),
      onComment: () => void beats++,
    });
    const reading = (async () => {
      try {
        for await (const chunk of response.body ?? []) {
          parser.feed(Buffer.from(chunk).toString("utf8"));
          wake();
        }
      } catch {
        // Aborted by `close`, or cut by the server's end.
      }
      isOver = true;
      wake();
    })();
    return { next, heartbeat, ended, close: () => left.abort() };

    async function next(): Promise<EventSourceMessage> {
      await until(() => received.length > 0 || isOver);
      const event = received.shift();
      assert.ok(event !== undefined, "the stream ended");
      return event;
    }

    async function heartbeat(): Promise<boolean> {
      const before = beats;
      await until(() => beats > before || isOver);
      return beats > before;
    }

    async function ended(): Promise<boolean> {
      await reading;
      return isOver && received.length === 0;
    }

    async function until(condition: () => boolean): Promise<void> {
      while (!condition()) {
        const { promise, resolve } = Promise.withResolvers<void>();
        wake = resolve;
        await promise;
      }
    }
  }
}
