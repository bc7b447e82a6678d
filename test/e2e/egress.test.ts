/**
 * Goal: what an agent sends is decided, gets its credential at the edge, comes back without it, and
 * is on record beside what its calls cost: to be searched, exported, proven whole, and replayed.
 *
 * Method: an installation with our own proxy and the database, and one with mitmproxy and
 * Elasticsearch; a real agent asks a server of the test's, in the words of a scripted model.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import test from "node:test";
import type { FlowDetail } from "../../orchestrator/contract/flow-views.ts";
import type { FlowPage } from "../../orchestrator/contract/flows.ts";
import type { Trial } from "../../orchestrator/contract/trials.ts";
import { elasticsearchSkip, elasticsearchUrl } from "../support/elasticsearch.ts";
import { eventually } from "../support/eventually.ts";
import {
  type Installation,
  makeProject,
  openInstallation,
  ROOT,
  TERMINAL,
  whyNoAgents,
} from "../support/installation.ts";
import { openOutside, whyNoOutside } from "../support/outside.ts";

const AGENT = "claude-code";
const TOKEN = "glpat-9f8e7d6c5b4a3f2e1d0c";

interface Variant {
  name: string;
  number: number;
  skip: string | false;
  env: () => Promise<Record<string, string>>;
}

const VARIANTS: readonly Variant[] = [
  { name: "our own proxy, PostgreSQL", number: 21, skip: false, env: async () => ({}) },
  {
    name: "mitmproxy, Elasticsearch",
    number: 22,
    skip: whyNoMitmproxy() || elasticsearchSkip,
    env: async () => ({
      AUTOCODE_EGRESS: "mitmproxy",
      ELASTICSEARCH_URL: await elasticsearchUrl(),
      ELASTICSEARCH_PREFIX: `e2e-${process.pid}`,
    }),
  },
];

for (const { name, number, skip, env } of VARIANTS) {
  test(`from a request to its record: ${name}`, {
    skip: skip || ((await whyNoOutside()) ?? (await whyNoAgents(AGENT))),
  }, async (t) => {
    await using outside = await openOutside(number);
    await using forge = await openForge(outside.gate);
    await using installation = await openInstallation({ env: await env() });
    await playing(installation, `curl -s -H "Authorization: Bearer $FORGE_TOKEN" ${forge.url}/me`);
    await installation.start({ AUTOCODE_SCRIPTS: join(installation.folder, "scripts") });
    await store(installation, "forge/token", TOKEN);
    await makeProject(installation, "egress", [
      `agents: [${AGENT}]`,
      "egress:",
      "  llm_through_proxy: true",
      "  require_isolation: true",
      "  require_record: true",
      '  environment: { FORGE_TOKEN: "{{secret:forge/token}}" }',
      "  rules:",
      `    - { action: inject, hosts: ["${outside.gate}"], ports: [${forge.port}], is_private: true,`,
      "        methods: [GET], credential: { secret: forge/token } }",
    ]);
    const what = ["--project", "egress", "--task", "fix-median", "-a", AGENT, "-m", "scripted"];
    const { id } = await installation.json<Trial>("trial", "run", ...what, "--detach");
    const trial = await installation.untilState(id, TERMINAL, 180_000);

    await t.test("the server was told the secret, and the agent never was", async () => {
      assert.deepEqual(forge.heard, [`Bearer ${TOKEN}`]);
      const log = await installation.cli("trial", "logs", id);
      assert.ok(!log.out.includes(TOKEN));
    });

    await t.test("its record says by which rule, with which secret, and has none", async () => {
      const { flows } = await flowsOf(installation, `${id}&host=${outside.gate}`, 1);
      const [found] = flows;
      assert.deepEqual(
        [found?.method, found?.path, found?.status, found?.decision.action, found?.decision.rule],
        ["GET", "/me", 200, "inject", "rules[0]"],
      );
      const { flow: record } = await installation.get<FlowDetail>(`flows/${found?.id}`);
      assert.deepEqual(record.credentials, ["forge/token"]);
      assert.equal(record.engine, name.startsWith("mitmproxy") ? "mitmproxy" : "embedded");
      assert.ok(!JSON.stringify(record).includes(TOKEN));
      assert.match(record.response?.body?.content ?? "", /hello/);
    });

    await t.test("each of its calls is there with its cost, once for each door", async () => {
      const calls = await installation.calls(id);
      const page = await flowsOf(installation, `${id}&door=gateway`, calls.length);
      const priced = page.flows.filter(({ cost }) => cost !== null);
      assert.deepEqual(
        priced.map(({ call_id }) => call_id).sort(),
        calls.map(({ id: call }) => call).sort(),
      );
      const sum = priced.reduce((nanos, { cost }) => nanos + BigInt(cost?.amount_nanos ?? 0), 0n);
      assert.equal(String(sum), trial.budget?.spent_nanos);
      const through = await flowsOf(installation, `${id}&door=egress&path=/v1`, calls.length);
      assert.ok(through.flows.every(({ decision }) => decision.reason === "gateway"));
    });

    await t.test("nothing is missing, nothing is unmatched, and the export is whole", async () => {
      await eventually(
        async () => (await installation.cli("traffic", "doctor")).exit,
        (exit) => exit === 0,
        30_000,
      );
      const unmatched = await installation.cli("traffic", "unmatched", "--json");
      assert.match(unmatched.out, /\[\s*\]/);
      const file = join(installation.folder, "trial.har");
      const exported = await installation.cli("traffic", "export", "--trial", id, "-o", file);
      assert.equal(exported.exit, 0, exported.err);
      const text = await readFile(file, "utf8");
      const har = JSON.parse(text) as { log: { entries: unknown[] } };
      const { flows } = await flowsOf(installation, id, 1);
      assert.equal(har.log.entries.length, flows.filter(({ kind }) => kind === "http").length);
      assert.ok(!text.includes(TOKEN));
    });

    await t.test("a replay asks nobody, costs nothing, and comes to the same verdict", async () => {
      forge.heard.length = 0;
      const replayed = await installation.cli("trial", "replay", id, "--json");
      const replay = JSON.parse(replayed.out) as Trial;
      assert.deepEqual([replay.replay_of, replay.verdict], [id, trial.verdict], replayed.err);
      assert.deepEqual([replay.flags.includes("replay_diverged"), forge.heard], [false, []]);
      assert.deepEqual(await installation.calls(replay.id), []);
    });
  });
}

function whyNoMitmproxy(): string | false {
  const isThere = existsSync(join(ROOT, ".engines/mitmproxy/mitmdump"));
  if (isThere || process.env["AUTOCODE_REQUIRE_ENGINES"] === "all") return false;
  return "mitmproxy is not installed: npm run engines mitmproxy";
}

/** At least so many flows, once they are stored: a record is behind by its spool. */
function flowsOf(installation: Installation, query: string, count: number): Promise<FlowPage> {
  return eventually(
    () => installation.get<FlowPage>(`flows?limit=200&trial_id=${query}`),
    ({ flows }) => flows.length >= count && count > 0,
    30_000,
  );
}

async function store(installation: Installation, path: string, value: string): Promise<void> {
  const answer = await fetch(`${installation.url()}/api/v1/secrets`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${installation.token()}`,
      "content-type": "application/json",
    },
    body: JSON.stringify({ path, value }),
  });
  assert.equal(answer.status, 200, await answer.text());
}

/** A script that does the example's task, after it ran the command. */
async function playing(installation: Installation, shell: string): Promise<void> {
  const scripts = join(installation.folder, "scripts");
  await mkdir(scripts, { recursive: true });
  const script = {
    match: "The median of an even number of values is wrong",
    plan: [[{ say: "I look first." }]],
    steps: [[{ shell }], [{ say: "Done." }]],
  };
  await writeFile(join(scripts, "egress.yaml"), JSON.stringify(script));
}

/** Says hello, and gives back what it was told: as a careless API does. */
async function openForge(address: string) {
  const heard: string[] = [];
  const server = createServer((request, response) => {
    const told = String(request.headers.authorization);
    heard.push(told);
    response.writeHead(200, { "content-type": "text/plain", "x-told": told });
    response.end(`hello, ${told}\n`);
  });
  server.listen(0, address);
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    ...{ port, url: `http://${address}:${port}`, heard },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
