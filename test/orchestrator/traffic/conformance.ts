/**
 * Goal: every store of traffic keeps, finds, counts and forgets the same.
 *
 * Method: what a store answers is compared with the port in memory, which is a dozen lines over the
 * meaning of a filter (`filter.ts`). Texts that are looked for are whole words: engines differ in
 * what they find inside of words.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { FLOW_GROUPS } from "../../../orchestrator/contract/flow-choices.ts";
import type { FlowRecord, FlowTotals } from "../../../orchestrator/contract/flows.ts";
import { Problem } from "../../../orchestrator/problem.ts";
import { createIds, type FlowId, type ProjectId } from "../../../orchestrator/runtime/ids.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import type { FlowQuery, Traffic } from "../../../orchestrator/traffic/traffic.ts";
import { flowRecord, textBody } from "../../support/flow-records.ts";
import { createMemoryTraffic } from "../../support/memory-traffic.ts";
import { CLOCK, DAY_MS, makeWorld, NOW_MS, PAYLOADS, place, sorted } from "./conformance-world.ts";

export interface TrafficFixture extends AsyncDisposable {
  traffic: Traffic;
  /** Resolves once what was appended is found. */
  settle(): Promise<void>;
  /** The same port, whose engine cannot be reached. */
  away(): Promise<Traffic & AsyncDisposable>;
}

type Open = () => Promise<TrafficFixture>;
type Options = { skip: string | false };

export function testTraffic(name: string, open: Open, options: Options = { skip: false }): void {
  testKeeping(name, open, options);
  testFinding(name, open, options);
  testForgetting(name, open, options);

  test(`${name}: an engine that is away is a problem, told in its words`, options, async () => {
    await using fixture = await open();
    await using away = await fixture.away();
    const flow = flowRecord(createIds(CLOCK, seededRandom(9)), NOW_MS);
    const asked: (() => Promise<unknown>)[] = [
      () => away.append([flow]),
      () => away.search({}, { limit: 10 }),
      () => away.find(flow.id as FlowId),
      () => Array.fromAsync(away.scan({})),
      () => away.totals({}, "host"),
      () => away.countBySource([flow.source_id]),
      () => away.expire(null, "body", NOW_MS),
      () => away.boundary("project_x", 1),
      () => away.describe(),
    ];
    for (const ask of asked) await assert.rejects(ask(), isProblem("unavailable"), String(ask));
  });
}

function testKeeping(name: string, open: Open, options: Options): void {
  test(`${name}: a record is kept once, as it was first`, options, async () => {
    await using fixture = await open();
    const { traffic } = fixture;
    const ids = createIds(CLOCK, seededRandom(1));
    const flows = Array.from({ length: 20 }, (_, at) => flowRecord(ids, NOW_MS + at));
    assert.deepEqual(await traffic.append([]), new Map());
    assert.deepEqual(await traffic.append(flows), new Map());
    const changed = flows.map((flow) => ({ ...flow, error: "another" }));
    await Promise.all([traffic.append(changed), traffic.append(flows), traffic.append(changed)]);
    const [first] = flows;
    assert.ok(first !== undefined);
    const twice = flowRecord(ids, NOW_MS + 50);
    assert.deepEqual(await traffic.append([twice, twice, first]), new Map());
    await fixture.settle();
    const kept = await Array.fromAsync(traffic.scan({}));
    assert.deepEqual(kept, [...flows, twice]);
    for (const flow of kept) assert.deepEqual(await traffic.find(flow.id as FlowId), flow);
    assert.equal(await traffic.find(ids.next("flow")), null);
    const counts = await traffic.countBySource([first.source_id, ids.next("process")]);
    assert.deepEqual(
      [...counts.values()].filter((count) => count > 0),
      [21],
    );
    assert.ok((await traffic.describe()).length > 10);
  });

  test(`${name}: whatever text and bytes passed come back as they were`, options, async () => {
    await using fixture = await open();
    const { traffic } = fixture;
    const ids = createIds(CLOCK, seededRandom(2));
    const odd =
      'NUL \0, half \ud83d, other half \udd11, whole 🔑, \ue000e000 \\u0000 \\ "q" \u2028\n%_';
    const bytes = Buffer.from(Array.from({ length: 1_024 }, (_, at) => (at * 7) % 256));
    const binary = { ...textBody("", null), encoding: "base64" as const };
    const flows = [
      flowRecord(ids, NOW_MS, {
        agent: odd,
        error: odd,
        server: { ...flowRecord(ids, NOW_MS).server, host: `${odd}.example`, server_name: odd },
        request: {
          path: `/${odd}`,
          query: odd,
          headers: [
            [odd, odd],
            ["", ""],
            ["X-Twice", "1"],
            ["x-twice", "2"],
          ],
          body: textBody(odd, odd),
        },
        response: { headers: [], body: { ...binary, content: bytes.toString("base64") } },
      }),
      flowRecord(ids, NOW_MS + 1, { request: { body: textBody("", null) }, response: null }),
      flowRecord(ids, NOW_MS + 2, {
        kind: "websocket",
        messages: [
          { at_ms: 1.5, from: "client", body: textBody("line\nline\r\n", null) },
          { at_ms: 2, from: "server", body: { ...binary, content: bytes.toString("base64") } },
          { at_ms: 3, from: "server", body: textBody(odd, null, true) },
        ],
      }),
      flowRecord(ids, NOW_MS + 3, { messages: [] }),
      flowRecord(ids, NOW_MS + 4, { kind: "tunnel", request: null, response: null }),
    ];
    assert.deepEqual(await traffic.append(flows), new Map());
    await fixture.settle();
    assert.deepEqual(await Array.fromAsync(traffic.scan({})), flows);
    const [oddest] = flows;
    assert.ok(oddest !== undefined);
    assert.deepEqual(await traffic.find(oddest.id as FlowId), oddest);
    const page = await traffic.search({ host: oddest.server.host }, { limit: 10 });
    assert.deepEqual(
      page.flows.map(({ id }) => id),
      [oddest.id],
    );
  });

  test(`${name}: bodies of 5 MB are kept whole`, options, async () => {
    await using fixture = await open();
    const { traffic } = fixture;
    const ids = createIds(CLOCK, seededRandom(3));
    const text = "lorem ipsum dolor ".repeat(5 * 2 ** 16);
    const flows = Array.from({ length: 4 }, (_, at) =>
      flowRecord(ids, NOW_MS + at, { response: { body: textBody(`${at} ${text}`, null) } }),
    );
    assert.deepEqual(await traffic.append(flows), new Map());
    await fixture.settle();
    let read = 0;
    for await (const flow of traffic.scan({ text: "ipsum" })) {
      assert.equal(flow.response?.body?.content, flows[read]?.response?.body?.content);
      read += 1;
    }
    assert.equal(read, 4);
  });

  test(
    `${name}: records of any day are kept, late or early; one of none is refused`,
    options,
    async () => {
      await using fixture = await open();
      const { traffic } = fixture;
      const ids = createIds(CLOCK, seededRandom(4));
      const times = [Date.UTC(1999, 0, 1), NOW_MS - 40 * DAY_MS, NOW_MS, NOW_MS + 3 * DAY_MS];
      const flows = times.map((atMs) => flowRecord(ids, atMs));
      const refused = { ...flowRecord(ids, NOW_MS), started_at: "+020260-01-01T00:00:00.000Z" };
      const rejected = await traffic.append([refused, ...flows]);
      assert.deepEqual([...rejected.keys()], [refused.id]);
      assert.match(rejected.get(refused.id as FlowId) ?? "", /started_at/);
      await fixture.settle();
      assert.deepEqual(await Array.fromAsync(traffic.scan({})), flows);
    },
  );
}

function testFinding(name: string, open: Open, options: Options): void {
  test(`${name}: every filter finds what it means, and totals count it`, options, async () => {
    await using fixture = await open();
    const { traffic } = fixture;
    const world = makeWorld(5);
    const memory = createMemoryTraffic();
    await memory.append(world.flows);
    assert.deepEqual(await traffic.append(shuffled(world.flows)), new Map());
    await fixture.settle();
    for (const [asked, query] of world.queries.entries()) {
      const what = JSON.stringify(query);
      const expected = await memory.search(query, { limit: 1_000 });
      const found = await traffic.search(query, { limit: 1_000 });
      assert.deepEqual(found.flows, expected.flows, what);
      assert.equal(found.next_cursor, null, what);
      const whole = await Array.fromAsync(traffic.scan(query));
      assert.deepEqual(whole, await Array.fromAsync(memory.scan(query)), what);
      // Each group by every third query.
      for (const by of FLOW_GROUPS.filter((_, at) => (at + asked) % 3 === 0)) {
        const { groups } = await traffic.totals(query, by);
        const counts = groups.map(({ key, flow_count }) => (by === "hour" ? key : -flow_count));
        const isOrdered = counts.every(
          (each, at) => at === 0 || (counts[at - 1] ?? 0) <= (each ?? 0),
        );
        assert.ok(isOrdered, `${what} by ${by}: ${counts}`);
        const wanted = await memory.totals(query, by);
        assert.deepEqual(byKey(groups), byKey(wanted.groups), `${what} by ${by}`);
      }
    }
    // What is found by every query is no test of a filter.
    const counts = world.queries.map(
      async (query) => (await memory.search(query, { limit: 1_000 })).flows.length,
    );
    const found = (await Promise.all(counts)).filter(
      (count) => count > 0 && count < world.flows.length,
    );
    assert.ok(found.length > world.queries.length * 0.7, `${found.length}`);
  });

  test(`${name}: pages follow one another, beside writes`, options, async () => {
    await using fixture = await open();
    const { traffic } = fixture;
    const ids = createIds(CLOCK, seededRandom(6));
    // Three at each moment.
    const flows = Array.from({ length: 30 }, (_, at) =>
      flowRecord(ids, NOW_MS + Math.floor(at / 3), {
        request: { body: textBody(at % 2 === 0 ? "even" : "odd", null) },
      }),
    );
    await traffic.append(shuffled(flows));
    await fixture.settle();
    for (const [query, wanted] of [
      [{}, flows],
      [{ text: "even" }, flows.filter((_, at) => at % 2 === 0)],
    ] as const) {
      const seen: string[] = [];
      let cursor: string | null = null;
      do {
        const page = await traffic.search(query, {
          limit: 4,
          ...(cursor === null ? {} : { cursor }),
        });
        assert.ok(page.flows.length <= 4);
        seen.push(...page.flows.map(({ id }) => id));
        cursor = page.next_cursor;
        await traffic.append([flowRecord(ids, NOW_MS + 1_000 + seen.length)]);
        await fixture.settle();
      } while (cursor !== null);
      const newestFirst = [...wanted].sort((a, b) => (place(a) < place(b) ? 1 : -1));
      assert.deepEqual(
        seen,
        newestFirst.map(({ id }) => id),
        JSON.stringify(query),
      );
    }
  });

  test(
    `${name}: S6: no filter and no cursor is read as anything but a value`,
    options,
    async () => {
      await using fixture = await open();
      const { traffic } = fixture;
      const world = makeWorld(7);
      await traffic.append(world.flows);
      await fixture.settle();
      const names = ["trial_id", "host", "path", "method", "action", "reason", "door", "text"];
      for (const payload of PAYLOADS) {
        for (const field of names) {
          const query = { [field]: payload } as FlowQuery;
          const page = await traffic.search(query, { limit: 10 });
          assert.deepEqual(page.flows, [], `${field}: ${payload}`);
        }
        for (const field of ["since", "until"]) {
          const query = { [field]: payload } as FlowQuery;
          await assert.rejects(traffic.search(query, { limit: 10 }), isProblem("invalid_request"));
        }
        const page = { limit: 10, cursor: payload };
        await assert.rejects(traffic.search({}, page), isProblem("invalid_request"), payload);
        assert.equal(await traffic.find(payload as FlowId), null, payload);
        assert.equal(await traffic.expire(payload as ProjectId, "meta", NOW_MS + DAY_MS), 0);
        await traffic.totals({ host: payload }, "host");
        await traffic.countBySource([payload]);
      }
      await fixture.settle();
      assert.equal((await Array.fromAsync(traffic.scan({}))).length, world.flows.length);
    },
  );
}

function testForgetting(name: string, open: Open, options: Options): void {
  test(
    `${name}: a class of one project's fields goes, before a moment, and nothing else`,
    options,
    async () => {
      await using fixture = await open();
      const { traffic } = fixture;
      const world = makeWorld(8);
      const memory = createMemoryTraffic();
      await memory.append(world.flows);
      await traffic.append(world.flows);
      await fixture.settle();
      const [first, second] = world.projects;
      assert.ok(first !== undefined && second !== undefined);
      const middle = Date.parse(world.flows[Math.floor(world.flows.length / 2)]?.started_at ?? "");
      const steps = [
        ["body", first, middle],
        ["headers", second, middle + 1],
        ["body", null, NOW_MS],
        ["meta", second, middle],
        ["meta", null, NOW_MS - DAY_MS],
        ["headers", first, NOW_MS + 10 * DAY_MS],
        ["meta", first, NOW_MS + 10 * DAY_MS],
      ] as const;
      for (const [what, whose, before] of steps) {
        const expected = await memory.expire(whose, what, before);
        assert.equal(await traffic.expire(whose, what, before), expected, `${what} of ${whose}`);
        await fixture.settle();
        assert.equal(
          await traffic.expire(whose, what, before),
          0,
          "a second time there is nothing",
        );
        const left = await Array.fromAsync(traffic.scan({}));
        assert.deepEqual(left, await Array.fromAsync(memory.scan({})), `${what} of ${whose}`);
      }
    },
  );

  test(`${name}: whole days of everyone's go at once`, options, async () => {
    await using fixture = await open();
    const { traffic } = fixture;
    const world = makeWorld(10);
    await traffic.append(world.flows);
    await fixture.settle();
    const startOfDay = NOW_MS - (NOW_MS % DAY_MS);
    const isOld = ({ started_at }: FlowRecord) => Date.parse(started_at) < startOfDay;
    const newer = world.flows.filter((flow) => !isOld(flow));
    assert.ok(newer.length > 0 && newer.length < world.flows.length);
    // In the middle of a day: what began before it is another day's.
    await traffic.expire("everyone", "body", NOW_MS);
    await fixture.settle();
    const left = await Array.fromAsync(traffic.scan({}));
    for (const flow of left) {
      const before = world.flows.find(({ id }) => id === flow.id);
      if (!isOld(flow)) assert.deepEqual(flow, before);
      else assert.deepEqual([flow.request?.body ?? null, flow.messages], [null, null]);
      assert.deepEqual(flow.request?.headers, before?.request?.headers);
    }
    assert.equal(left.length, world.flows.length);
    await traffic.expire("everyone", "meta", NOW_MS);
    await fixture.settle();
    assert.deepEqual(await Array.fromAsync(traffic.scan({})), sorted(newer));
    // A late record of a day that was dropped finds a place again.
    const late = world.flows.filter(isOld).slice(0, 1);
    assert.deepEqual(await traffic.append(late), new Map());
    await fixture.settle();
    assert.deepEqual(await Array.fromAsync(traffic.scan({})), sorted([...late, ...newer]));
  });

  test(
    `${name}: a project's newest bytes end where the next would be too much`,
    options,
    async () => {
      await using fixture = await open();
      const { traffic } = fixture;
      const ids = createIds(CLOCK, seededRandom(11));
      const [projectId, other] = [ids.next("project"), ids.next("project")];
      const flows = Array.from({ length: 10 }, (_, at) =>
        flowRecord(ids, NOW_MS - at * DAY_MS * 0.4 - at * 1_000, {
          project_id: at === 3 ? other : projectId,
          request: { headers: [["a", "é".repeat(45)]], body: textBody("x".repeat(909), null) },
          response: null,
        }),
      );
      await traffic.append(flows);
      await fixture.settle();
      assert.equal(await traffic.boundary(projectId, 9_000), null);
      assert.equal(await traffic.boundary(ids.next("project"), 0), null);
      // Three thousand are the three newest's; the fourth of the project is at 4.
      const before = await traffic.boundary(projectId, 3_000);
      assert.equal(before, Date.parse(flows[4]?.started_at ?? "") + 1);
      assert.equal(await traffic.boundary(projectId, 3_999), before);
      assert.equal(await traffic.boundary(projectId, 0), NOW_MS + 1);
      for (const what of ["headers", "body"] as const) {
        assert.equal(await traffic.expire(projectId, what, before ?? 0), 6, what);
      }
      await fixture.settle();
      assert.equal(await traffic.boundary(projectId, 3_000), null);
      assert.equal(
        await traffic.boundary(projectId, 2_999),
        Date.parse(flows[2]?.started_at ?? "") + 1,
      );
    },
  );
}

function byKey(groups: FlowTotals["groups"]): FlowTotals["groups"] {
  return groups.toSorted((a, b) => (String(a.key) < String(b.key) ? -1 : 1));
}

function shuffled<Of>(all: readonly Of[]): Of[] {
  const random = seededRandom(all.length);
  return all
    .map((each) => ({ each, at: random.below(2 ** 32) }))
    .sort((a, b) => a.at - b.at)
    .map(({ each }) => each);
}

function isProblem(code: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof Problem, String(error));
    assert.equal(error.code, code, error.message);
    return true;
  };
}
