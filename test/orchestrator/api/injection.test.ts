/**
 * Goal (S6): nothing that a request carries is ever read as SQL: not a filter, a cursor, a name in
 * an address, a key, a body's field nor the Authorization header.
 *
 * Method: 200 payloads go into every place of every route that the API describes, over the real
 * tables. Each is answered as what it is, wrong text; none makes a defect, tells of the database,
 * waits, or changes a row. A source that glues SQL from text fails the last test.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import type { FastifyInstance, InjectOptions } from "fastify";
import { rows } from "../../../orchestrator/db/rows.ts";
import { openRealApi } from "../../support/real-api.ts";
import { listFiles, readSources } from "../../tidy/sources.ts";

/** What a database's own words in an answer would look like. */
const LEAK =
  /syntax error|PostgreSQL|pg_|relation "|column "|unterminated|invalid input syntax|select |drizzle/i;
/** What is waited for in a payload that is read as SQL, and far more than 200 answers take. */
const SLEEP_S = 120;
/** Control characters, which HTTP cannot carry in a header. */
const CONTROLS = new RegExp(`[\\0-\\x1f${String.fromCharCode(127)}]`, "g");
const PAYLOADS = payloads();

interface Place {
  method: "GET" | "POST" | "PUT" | "DELETE";
  path: string;
  in: string;
  name: string;
}

test(`S6: ${PAYLOADS.length} payloads in every place of every route`, async (t) => {
  assert.equal(new Set(PAYLOADS).size, 200);
  await using world = await openRealApi();
  const trial = await world.life.create();
  const api = world.open();
  const authorization = `Bearer ${world.token}`;
  const document = (await api.inject("/openapi.json")).json();
  const places = placesOf(document);
  assert.ok(places.length > 40, `${places.length} places`);
  const before = await contents();

  for (const place of places) {
    await t.test(`${place.method} ${place.path}, ${place.in} ${place.name}`, async () => {
      const startMs = performance.now();
      await Promise.all(
        PAYLOADS.map((payload) =>
          refuses(api, requestOf(place, payload, { trial, authorization }), payload),
        ),
      );
      assert.ok(performance.now() - startMs < SLEEP_S * 1_000, "something slept");
    });
  }

  await t.test("the Authorization header and the session's cookie", async () => {
    for (const payload of PAYLOADS) {
      for (const text of [payload, `Bearer ${payload}`, `Bearer ${world.token}${payload}`]) {
        const value = Buffer.from(text).toString("latin1").replaceAll(CONTROLS, " ");
        const asHeader = { authorization: value };
        const asCookie = { cookie: `autocode_session=${encodeURIComponent(text)}` };
        for (const headers of [asHeader, asCookie]) {
          const answer = await api.inject({ url: "/api/v1/trials", headers });
          // A token with something behind a blank is a token that is not ours, or ours and no more.
          assert.equal(answer.statusCode, 401, `${text}: ${answer.body}`);
          assert.doesNotMatch(answer.body, LEAK);
        }
      }
    }
  });

  await t.test("no row of any table was changed, made or lost", async () => {
    assert.deepEqual(await contents(), before);
  });
  await api.close();

  /** Rows of each table, and a digest of them; answers that are kept by their keys are left out. */
  async function contents() {
    const tables = await rows<{ name: string }>(
      world.database.sql,
      sql`select tablename as name from pg_tables where schemaname = 'public' order by 1`,
    );
    const found: Record<string, unknown> = {};
    for (const { name } of tables) {
      if (["idempotency", "journal_entry", "journal_checkpoint"].includes(name)) continue;
      const [row] = await rows(
        world.database.sql,
        sql`select count(*)::int as count, md5(string_agg(each::text, ',' order by each::text))
          from ${sql.identifier(name)} as each`,
      );
      found[name] = row;
    }
    return found;
  }
});

test("S6: no statement is glued together from text", () => {
  // `sql.raw` is a door; the few that are open hold constants of ours.
  const open = readSources(listFiles())
    .filter(({ path }) => /^(orchestrator|proxy|worker-agent|models)\//.test(path))
    .flatMap(({ path, text }) =>
      [...text.matchAll(/sql\.raw\(([^;]*?)\)/gs)].map(([, given = ""]) => ({ path, given })),
    );
  for (const { path, given } of open) {
    assert.doesNotMatch(given, /\$\{|\+|request|query|params|body|input/, `${path}: ${given}`);
  }
  const glued = readSources(listFiles())
    .filter(({ path }) => /^(orchestrator|proxy)\//.test(path))
    .filter(({ text }) => /\.(query|execute)\(\s*(`[^`]*\$\{|"[^"]*" ?\+)/.test(text));
  assert.deepEqual(
    glued.map(({ path }) => path),
    // What takes no parameters: a channel's name, escaped; the name of our own database, a
    // constant; the names of tables and columns that are copied, quoted.
    [
      "orchestrator/backup/restore.ts",
      "orchestrator/backup/tables.ts",
      "orchestrator/db/listener.ts",
      "orchestrator/db/server.ts",
    ],
  );
});

async function refuses(
  api: FastifyInstance,
  request: InjectOptions,
  payload: string,
): Promise<void> {
  const answer = await api.inject(request);
  const what = `${JSON.stringify(payload)}: ${answer.statusCode} ${answer.body.slice(0, 300)}`;
  // A login link's secret is a credential: a wrong one is told so.
  const isWrongSecret = answer.statusCode === 401 && String(request.url).startsWith("/login?");
  assert.ok(answer.statusCode < 500 && (answer.statusCode !== 401 || isWrongSecret), what);
  // A problem may quote what it was given; what is left must not be the database's.
  const said = answer.statusCode < 400 ? "" : answer.body.split(payload).join("");
  if (!LEAK.test(payload)) assert.doesNotMatch(said, LEAK, what);
}

/** Every parameter of every route that answers at once, from the API's own description. */
function placesOf(document: { paths: Record<string, Record<string, unknown>> }): Place[] {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).flatMap(([method, operation]) => {
      const { parameters = [] } = operation as { parameters?: { in: string; name: string }[] };
      // The live streams of all events and of flows have no end; a trial's events and the list of
      // flows take the same. Workers and hosts have tokens of their own, looked at first.
      if (/v1\/(?:events|flows\/live)$|(?:worker|host)\//.test(path)) return [];
      return parameters.map(({ in: where, name }) => ({
        method: method.toUpperCase() as Place["method"],
        path,
        in: where,
        name,
      }));
    }),
  );
}

function requestOf(
  { method, path, in: where, name }: Place,
  payload: string,
  { trial, authorization }: { trial: string; authorization: string },
): InjectOptions {
  const known: Record<string, string> = { id: trial, trialId: trial, name: "p", project: "p" };
  const address = path.replace(/\{(\w+)\}/g, (_all, each: string) =>
    encodeURIComponent(where === "path" && each === name ? payload : (known[each] ?? "p")),
  );
  const query = where === "query" ? `?${new URLSearchParams({ [name]: payload })}` : "";
  const headers: Record<string, string> = { authorization, "idempotency-key": "s6" };
  if (where === "header") {
    headers[name] = Buffer.from(payload).toString("latin1").replaceAll(CONTROLS, " ");
  }
  return {
    method,
    url: `${address}${query}`,
    headers,
    ...(method === "GET" ? {} : { payload: {} }),
  };
}

/** Two hundred: what breaks out of a text, times what is then said; and the odd ones. */
function payloads(): string[] {
  const ways = [
    "'",
    '"',
    "\\'",
    "')",
    "'))",
    '")',
    "';",
    "$$;",
    "1",
    "1)",
    "%27",
    "\u02bc",
    "\uff07",
    "`",
  ];
  const says = [
    " or 1=1--",
    " or 'a'='a",
    " union select id from account--",
    "; drop table transfer;--",
    "; update account set credits_posted_nanos=1e18::bigint--",
    `; select pg_sleep(${SLEEP_S})--`,
    " and 1=(select count(*) from pg_user)--",
    " || (select version()) || ",
    "; copy (select 1) to program 'id'--",
    " order by 99--",
    "/**/or/**/1/**/=/**/1#",
    " and (select 1 from generate_series(1,1e9))=1--",
    "; insert into api_token default values;--",
  ];
  const odd = [
    "\u0000",
    "'\u0000' or 1=1--",
    "\\",
    "\\\\'",
    "$1",
    "$1::text; select $2",
    ":name",
    "?",
    "{{1}}",
    "NULL",
    "null",
    "true",
    "-1",
    "1e309",
    "9223372036854775808",
    "0x27",
    "E'\\047'",
    "U&'\\0027'",
  ];
  const all = ways.flatMap((way) => says.map((said) => way + said));
  return [...all, ...odd].slice(0, 200);
}
