/**
 * Goal: whoever may see a flow sees it, whole or its meta, now or as it comes; exports are never
 * held as one; a slow reader costs nobody.
 *
 * Method: the API over a store in memory.
 */
import assert from "node:assert/strict";
import { connect } from "node:net";
import test from "node:test";
import { sql } from "drizzle-orm";
import { createParser, type EventSourceMessage } from "eventsource-parser";
import { Value } from "typebox/value";
import { createApi } from "../../../orchestrator/api/server.ts";
import { FlowDetail, RuleProposal } from "../../../orchestrator/contract/flow-views.ts";
import {
  FlowPage,
  type FlowRecord,
  type FlowSummary,
  FlowTotals,
} from "../../../orchestrator/contract/flows.ts";
import { PROJECT } from "../../support/api-answers.ts";
import { type ApiFixture, openApiServices } from "../../support/api-services.ts";
import { eventually } from "../../support/eventually.ts";
import { flowRecord, refusedFlow, textBody } from "../../support/flow-records.ts";

const DAY_MS = 86_400_000;

test("flows are listed, counted and shown", async (t) => {
  await using world = await openWorld();
  const { fixture, get, tokens } = world;
  const trialId = fixture.ids.next("trial");
  const made = flowsOf(fixture, trialId);
  await fixture.services.traffic.append(made);

  await t.test("the newest first, by pages, and by what is asked for", async () => {
    const first = await get<FlowPage>("flows?limit=2");
    assert.deepEqual(Value.Errors(FlowPage, first), []);
    const second = await get<FlowPage>(`flows?limit=2&cursor=${first.next_cursor}`);
    const ids = [...first.flows, ...second.flows].map(({ id }) => id);
    assert.deepEqual(ids, made.map(({ id }) => id).reverse());
    assert.equal(second.next_cursor, null);
    const found = await get<FlowPage>(
      `flows?project=demo&trial_id=${trialId}&action=deny&status=4xx&host=*.example`,
    );
    assert.deepEqual(
      found.flows.map(({ host }) => host),
      ["evil.example"],
    );
    assert.equal((await get<FlowPage>("flows?text=needle")).flows.length, 1);
    assert.equal(
      (await get<FlowPage>("flows?door=gateway&since=2026-01-01T00:00:00Z")).flows.length,
      1,
    );
  });

  await t.test("what is no filter is refused by name", async () => {
    for (const [query, said] of [
      ["trial_id=x", /querystring\.trial_id/],
      ["status=9", /status/],
      ["since=yesterday", /since/],
      ["cursor=x", /querystring\.cursor/],
      ["colour=red", /colour/],
      ["by=moon", /by/],
    ] as const) {
      const path = query.startsWith("by=") ? `flows/totals?${query}` : `flows?${query}`;
      const { status, text } = await world.ask(path);
      assert.equal(status, 400, query);
      assert.match(text, said);
    }
    assert.equal((await world.ask("flows?project=nobody")).status, 404);
  });

  await t.test("totals", async () => {
    const totals = await get<FlowTotals>("flows/totals?by=host");
    assert.deepEqual(Value.Errors(FlowTotals, totals), []);
    const [largest] = totals.groups;
    assert.deepEqual([largest?.key, largest?.flow_count], ["api.example.org", 2]);
  });

  await t.test("one is whole for an operator, and its meta alone for a viewer", async () => {
    const [posted] = made as [FlowRecord];
    const whole = await get<FlowDetail>(`flows/${posted.id}`);
    assert.deepEqual(whole, { flow: posted, is_withheld: false });
    assert.deepEqual(await get<FlowDetail>(`flows/${posted.id.slice(5)}`), whole, "the short id");
    const meta = await get<FlowDetail>(`flows/${posted.id}`, tokens.viewer);
    assert.equal(meta.is_withheld, true);
    assert.deepEqual(Value.Errors(FlowDetail, meta), []);
    assert.doesNotMatch(JSON.stringify(meta), /needle|theme=dark/);
    assert.equal((await world.ask(`flows/${fixture.ids.next("flow")}`)).status, 404);
    assert.equal((await world.ask("flows/garbage")).status, 404);
  });

  await t.test("a viewer cannot search, tail or export what it may not read", async () => {
    for (const path of [
      "flows?text=needle",
      "flows/totals?by=host&text=needle",
      "flows/live?text=ab",
    ]) {
      assert.equal((await world.ask(path, tokens.viewer)).status, 403, path);
    }
    assert.equal((await world.ask("flows/export?format=jsonl", tokens.viewer)).status, 403);
  });

  await t.test("a store that is away is a problem, and not an empty list", async () => {
    fixture.traffic.fault = "The store of flows does not answer";
    const { id } = made[0] as FlowRecord;
    for (const path of ["flows", `flows/${id}`, "flows/totals?by=hour", "flows/live"]) {
      assert.equal((await world.ask(path)).status, 503, path);
    }
    assert.equal((await world.ask("flows/export?format=har")).status, 503);
    fixture.traffic.fault = null;
  });
});

test("an export is whole, in order, and goes no faster than it is read", async (t) => {
  await using world = await openWorld();
  const { fixture } = world;
  const made = flowsOf(fixture, fixture.ids.next("trial"));
  await fixture.services.traffic.append(made);

  await t.test("a record a line", async () => {
    const { text } = await world.ask("flows/export?format=jsonl");
    assert.deepEqual(
      text
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line)),
      made,
    );
    const none = await world.ask("flows/export?format=jsonl&host=nobody.example");
    assert.deepEqual([none.status, none.text], [200, ""]);
  });

  await t.test("as an HTTP archive", async () => {
    const { text } = await world.ask("flows/export?format=har&action=deny");
    const { log } = JSON.parse(text);
    assert.deepEqual(
      log.entries.map((entry: { request: { url: string } }) => entry.request.url),
      ["https://evil.example/v1/items?page=2&sort=name"],
    );
    assert.deepEqual(log.creator, { name: "autocode", version: "9.9.9" });
  });

  await t.test(
    "a reader that stops reading stops the scan, and one that leaves ends it",
    async () => {
      let given = 0;
      let hasEnded = false;
      const body = textBody("x".repeat(100_000), "text/plain");
      const big = flowRecord(fixture.ids, fixture.clock.ms, { response: { body } });
      fixture.services.traffic.scan = async function* () {
        try {
          for (; given < 10_000; given++) yield big;
        } finally {
          hasEnded = true;
        }
      };
      const { port } = new URL(world.url);
      const socket = connect(Number(port), "127.0.0.1");
      socket.write(
        "GET /api/v1/flows/export?format=jsonl HTTP/1.1\r\nhost: 127.0.0.1\r\n" +
          `authorization: Bearer ${world.tokens.admin}\r\n\r\n`,
      );
      socket.pause();
      await eventually(
        () => given,
        (count) => count > 0,
      );
      let before = -1;
      await eventually(
        () => {
          const isStill = given === before;
          before = given;
          return isStill;
        },
        Boolean,
        10_000,
      );
      assert.ok(given < 1_000, `${given} of 10,000 flows were read for a reader that reads none`);
      socket.destroy();
      await eventually(() => hasEnded, Boolean);
    },
  );
});

test("flows as they are stored", async (t) => {
  await using world = await openWorld();
  const { fixture } = world;
  const { traffic } = fixture.services;
  await traffic.append([flowRecord(fixture.ids, fixture.clock.ms - 1_000)]);

  await t.test("from now on, what fits, each once; then after a break", async () => {
    const stream = await world.open("flows/live?action=deny");
    const [first, second] = [refused(0), refused(1)];
    await traffic.append([flowRecord(fixture.ids, fixture.clock.ms), first]);
    await traffic.append([first, second]);
    const told = [await stream.next(), await stream.next()];
    assert.deepEqual(told.map(idOfFlow), [first.id, second.id]);
    stream.close();
    const meanwhile = refused(2);
    await traffic.append([meanwhile]);
    const again = await world.open("flows/live?action=deny", told[1]?.id);
    const rest = [await again.next(), await again.next(), await again.next()];
    // What ended shortly before is told again; a reader knows it by its id.
    assert.deepEqual(rest.map(idOfFlow), [first.id, second.id, meanwhile.id]);
    again.close();
  });

  await t.test("also what another process stored", async () => {
    const stream = await world.open("flows/live");
    const theirs = refused(5);
    // Past the watch of this process.
    await fixture.traffic.append([theirs]);
    assert.equal(idOfFlow(await stream.next()), theirs.id);
    stream.close();
  });

  await t.test("a reader that does not keep up is cut off, and one that does is not", async () => {
    const query = "x".repeat(15_000);
    const batch = () =>
      Array.from({ length: 500 }, () =>
        refusedFlow(fixture.ids, fixture.clock.ms, { request: { query } }),
      );
    const quick = await world.open("flows/live?reason=no_rule&host=evil.example");
    const { port } = new URL(world.url);
    const slow = connect(Number(port), "127.0.0.1");
    slow.write(
      "GET /api/v1/flows/live HTTP/1.1\r\nhost: 127.0.0.1\r\n" +
        `authorization: Bearer ${world.tokens.admin}\r\n\r\n`,
    );
    slow.once("data", () => slow.pause());
    await eventually(() => slow.isPaused(), Boolean);
    let isCut = false;
    slow.on("close", () => {
      isCut = true;
    });
    slow.on("error", () => {});
    for (let round = 0; round < 16; round++) {
      await traffic.append(batch());
      for (let count = 0; count < 500; count++) await quick.next();
    }
    slow.resume();
    await eventually(() => isCut, Boolean);
    quick.close();
  });

  function refused(afterMs: number): FlowRecord {
    return refusedFlow(fixture.ids, fixture.clock.ms + afterMs, { duration_ms: 1 });
  }
});

test("allow this: first what would be asked, then the question, once", async () => {
  await using world = await openWorld();
  const { fixture } = world;
  const [, denied] = flowsOf(fixture, fixture.ids.next("trial")) as [FlowRecord, FlowRecord];
  const nobodys = refusedFlow(fixture.ids, fixture.clock.ms);
  await fixture.services.traffic.append([denied, nobodys]);
  const dry = await world.post(`flows/${denied.id}/propose`, { is_dry_run: true }, "a");
  assert.deepEqual(Value.Errors(RuleProposal, dry.body), []);
  assert.equal(dry.body.approval_id, null);
  assert.equal(fixture.effects["propose"], undefined);
  const filed = await world.post(`flows/${denied.id}/propose`, {}, "b");
  assert.match(filed.body.approval_id, /^approval_/);
  assert.deepEqual(await world.post(`flows/${denied.id}/propose`, {}, "b"), filed);
  assert.equal(fixture.effects["propose"], 1);
  assert.equal((await world.post(`flows/${nobodys.id}/propose`, {}, "c")).status, 409);
  const viewer = world.tokens.viewer;
  assert.equal((await world.post(`flows/${denied.id}/propose`, {}, "d", viewer)).status, 403);
});

function flowsOf({ ids, clock }: ApiFixture, trialId: string): FlowRecord[] {
  const of = { project_id: PROJECT.id, trial_id: trialId };
  return [
    flowRecord(ids, clock.ms, {
      ...of,
      request: { method: "POST", byte_count: 9, body: textBody("a needle ", "text/plain") },
    }),
    refusedFlow(ids, clock.ms + 1, of),
    flowRecord(ids, clock.ms + 2, { ...of, response: { status: 503 } }),
    flowRecord(ids, clock.ms + 3, {
      ...{ door: "gateway", engine: "gateway" },
      server: { ...flowRecord(ids, clock.ms).server, host: "gateway" },
    }),
  ];
}

function idOfFlow({ data }: EventSourceMessage): string {
  return (JSON.parse(data) as FlowSummary).id;
}

async function openWorld() {
  const fixture = await openApiServices();
  const api = createApi(fixture.services, { version: "9.9.9", pollMs: 20, heartbeatMs: 1_000 });
  const url = await api.listen({ host: "127.0.0.1", port: 0 });
  const admin = await fixture.access.issueCliToken();
  const session = await fixture.access.redeemLoginLink(await fixture.access.issueLoginLink(DAY_MS));
  const viewer = session?.sessionToken ?? "";
  await fixture.database.sql.execute(
    sql`update api_token set role = 'viewer' where purpose = 'session'`,
  );
  const world = { fixture, url, tokens: { admin, viewer }, get, ask, post, open };
  return {
    ...world,
    [Symbol.asyncDispose]: async () => {
      await api.close();
      await fixture[Symbol.asyncDispose]();
    },
  };

  async function ask(path: string, token = admin) {
    const headers = { authorization: `Bearer ${token}` };
    const answer = await fetch(`${url}/api/v1/${path}`, { headers });
    return { status: answer.status, text: await answer.text() };
  }

  async function get<Answer>(path: string, token = admin): Promise<Answer> {
    const { status, text } = await ask(path, token);
    assert.equal(status, 200, `${path}: ${text}`);
    return JSON.parse(text) as Answer;
  }

  async function post(path: string, body: object, key: string, token = admin) {
    const answer = await fetch(`${url}/api/v1/${path}`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${token}`,
        "content-type": "application/json",
        "idempotency-key": key,
      },
      body: JSON.stringify(body),
    });
    return { status: answer.status, body: await answer.json() };
  }

  async function open(path: string, lastId?: string) {
    const leaving = new AbortController();
    const answer = await fetch(`${url}/api/v1/${path}`, {
      headers: {
        authorization: `Bearer ${admin}`,
        ...(lastId === undefined ? {} : { "last-event-id": lastId }),
      },
      signal: leaving.signal,
    });
    assert.equal(answer.status, 200);
    const received: EventSourceMessage[] = [];
    const parser = createParser({ onEvent: (event) => void received.push(event) });
    const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
    return { next, close: () => leaving.abort() };

    async function next(): Promise<EventSourceMessage> {
      while (received.length === 0) {
        const read = await reader?.read();
        if (read === undefined || read.done) throw new Error("the stream has ended");
        parser.feed(read.value);
      }
      return received.shift() as EventSourceMessage;
    }
  }
}
