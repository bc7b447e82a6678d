/** Requests as clients send them: forwarded as decided, refused with the same bytes, recorded. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { FlowDraft } from "../../../../orchestrator/traffic/sink.ts";
import { eventually } from "../../../support/eventually.ts";
import { curl, openTunnel, readAll, sendRaw } from "../clients.ts";
import { type OpenEngine, openWorld, startUpstream, type World } from "../world.ts";

const SECRET = "s3cr3t-value-0123456789";

export function testHttp(name: string, open: OpenEngine): void {
  for (const version of ["1.1", "2"] as const) {
    test(`${name}: a request over TLS and HTTP/${version} arrives, is answered and recorded`, async () => {
      const arrived: {
        method?: string;
        url?: string;
        headers: NodeJS.Dict<unknown>;
        body: string;
      }[] = [];
      await using server = await startUpstream(async (request, response) => {
        let body = "";
        for await (const chunk of request) body += chunk;
        const { method = "", url = "", headers } = request;
        arrived.push({ method, url, headers, body });
        response.writeHead(201, { "content-type": "text/plain", "x-two": ["a", "b"] });
        response.end(`you sent ${body.length}`);
      });
      const { port } = server;
      const rules = [
        { action: "allow" as const, hosts: ["api.test"], ports: [port], is_private: true },
      ];
      await using world = await openWorld(open, { policy: { rules } });
      const url = `https://api.test:${port}/v1/things?a=b%20c&a=d`;
      const ran = await curl(
        world,
        `--http${version}`,
        ...["-i", "-H", "X-Own: yes", "-H", "Content-Type: application/json", "-d", '{"x":1}', url],
      );
      assert.equal(ran.status, 0, ran.stderr);
      assert.match(
        ran.stdout,
        /HTTP\/[\d.]+ 201[\s\S]*x-two: a\r\nx-two: b\r\n[\s\S]*\r\n\r\nyou sent 7$/i,
      );
      const [request] = arrived;
      assert.equal(request?.method, "POST");
      assert.equal(request?.url, "/v1/things?a=b%20c&a=d");
      assert.equal(request?.body, '{"x":1}');
      assert.equal(request?.headers["host"], `api.test:${port}`);
      assert.equal(request?.headers["x-own"], "yes");
      assert.equal(request?.headers["content-length"], "7");
      assert.equal(request?.headers["proxy-authorization"], undefined);
      const draft = await onlyDraft(world);
      assert.deepEqual(
        {
          ...{ kind: draft.kind, project: draft.projectId, trial: draft.trialId },
          ...{ allocation: draft.allocationId, agent: draft.agent, error: draft.error },
          ...{ decision: draft.decision.action, rule: draft.decision.rule },
          client: draft.client,
        },
        {
          ...{ kind: "http", project: "project_1", trial: "trial_1" },
          ...{ allocation: "allocation_1", agent: "aider", error: null },
          ...{ decision: "allow", rule: "rules[0]" },
          client: { address: "127.0.0.1", http_version: version === "2" ? "2.0" : "1.1" },
        },
      );
      const { request: asked, response: answered, server: at } = draft;
      assert.equal(asked?.method, "POST");
      assert.equal(asked?.scheme, "https");
      assert.equal(asked?.path, "/v1/things");
      assert.equal(asked?.query, "a=b%20c&a=d");
      assert.equal(headerOf(asked?.headers, "x-own"), "yes");
      assert.equal(headerOf(asked?.headers, "proxy-authorization"), undefined);
      assert.equal(asked?.body?.kept.toString(), '{"x":1}');
      assert.equal(asked?.body?.byteCount, 7);
      assert.equal(answered?.status, 201);
      assert.equal(answered?.body?.kept.toString(), "you sent 7");
      assert.deepEqual([at.host, at.port, at.address], ["api.test", port, "127.0.0.1"]);
      assert.equal(at.server_name, "api.test");
      assert.match(at.tls_version ?? "", /^TLSv1\.[23]$/);
      assert.match(at.certificate_sha256 ?? "", /^[0-9a-f]{64}$/);
      assert.ok((draft.timings.first_byte_ms ?? -1) >= 0);
      assert.ok(draft.durationMs > 0);
    });
  }

  test(`${name}: a plain request by its whole URL is forwarded, and keeps its connection`, async () => {
    const urls: string[] = [];
    const echo = (request: import("node:http").IncomingMessage) => urls.push(request.url ?? "");
    await using server = await startUpstream(
      (request, response) => {
        echo(request);
        response.end("plain");
      },
      { isPlain: true },
    );
    const { port } = server;
    const rules = [
      { action: "allow" as const, hosts: ["api.test"], ports: [port], is_private: true },
    ];
    await using world = await openWorld(open, { policy: { rules } });
    const url = `http://api.test:${port}/a`;
    const ran = await curl(world, "-w", "%{num_connects}\n", url, `${url}?b=1`);
    assert.equal(ran.stdout, "plain1\nplain0\n", ran.stderr);
    assert.deepEqual(urls, ["/a", "/a?b=1"]);
    const drafts = await draftsOf(world, 2);
    assert.deepEqual(
      drafts.map(({ request }) => [request?.scheme, request?.path, request?.query]),
      [
        ["http", "/a", null],
        ["http", "/a", "b=1"],
      ],
    );
  });

  test(`${name}: whoever has no credentials, or wrong ones, is told 407 and recorded`, async () => {
    await using world = await openWorld(open, { policy: { rules: [] } });
    for (const credentials of ["", `Proxy-Authorization: Basic ${btoa("worker:wrong")}\r\n`]) {
      const { socket, head } = await openTunnel(world, "api.test:443", credentials);
      const told = head + (socket.closed ? "" : await readAll(socket));
      assert.match(told, /^HTTP\/1\.1 407 /);
      assert.match(told, /proxy-authenticate: Basic realm="autocode egress"/i);
      assert.ok(told.endsWith(world.guard.stranger.refusal.body), told);
    }
    const strangers = await eventually(
      () => world.guard.strangers,
      (all) => all.length === 2,
    );
    assert.deepEqual(
      strangers.map(({ decision }) => decision.reason),
      ["no_session", "no_session"],
    );
    assert.equal(world.guard.drafts.length, 0);
  });

  test(`${name}: a refused host is told at CONNECT, a refused path inside, with the same bytes`, async () => {
    let arrived = 0;
    await using server = await startUpstream((_, response) => {
      arrived++;
      response.end("no");
    });
    const { port } = server;
    const rules = [
      {
        action: "deny" as const,
        hosts: ["api.test"],
        ports: [port],
        paths: ["/secret/**"],
        reason: "not this",
      },
      { action: "allow" as const, hosts: ["api.test"], ports: [port], is_private: true },
    ];
    await using world = await openWorld(open, { policy: { rules } });
    const { socket, head } = await openTunnel(world, "other.test:443");
    const told = head + (socket.closed ? "" : await readAll(socket));
    assert.match(told, /^HTTP\/1\.1 403 /);
    for (const version of ["--http1.1", "--http2"]) {
      const ran = await curl(world, version, "-i", `https://api.test:${port}/secret/x`);
      assert.match(ran.stdout, /^HTTP\/[\d.]+ 403/);
      assert.match(ran.stdout, /content-type: application\/json/i);
      const { error } = JSON.parse(ran.stdout.split("\r\n\r\n").at(-1) ?? "");
      assert.deepEqual([error.type, error.code], ["egress_refused", "rule"]);
      assert.match(error.message, /^rules\[0\] denies .*: not this$/);
    }
    assert.equal(arrived, 0);
    const drafts = await draftsOf(world, 3);
    assert.deepEqual(
      drafts.map(({ kind, decision, response }) => [
        kind,
        decision.reason,
        response?.status ?? null,
      ]),
      [
        ["tunnel", "no_rule", null],
        ["http", "rule", 403],
        ["http", "rule", 403],
      ],
    );
  });

  test(`${name}: answers without a body, a head alone, and trailers keep their form`, async () => {
    await using server = await startUpstream((request, response) => {
      if (request.url === "/204") response.writeHead(204).end();
      else if (request.url === "/304") response.writeHead(304, { etag: '"x"' }).end();
      else if (request.url === "/head") response.writeHead(200, { "content-length": 1234 }).end();
      else {
        response.writeHead(200, { trailer: "X-Sum" });
        response.write("body");
        response.addTrailers({ "X-Sum": "42" });
        response.end();
      }
    });
    const { port } = server;
    const rules = [
      { action: "allow" as const, hosts: ["api.test"], ports: [port], is_private: true },
    ];
    await using world = await openWorld(open, { policy: { rules } });
    for (const version of ["--http1.1", "--http2"]) {
      const at = (path: string) => `https://api.test:${port}${path}`;
      assert.match((await curl(world, version, "-i", at("/204"))).stdout, /^HTTP\/[\d.]+ 204/);
      assert.match((await curl(world, version, "-i", at("/304"))).stdout, /^HTTP\/[\d.]+ 304/);
      const head = (await curl(world, version, "-I", at("/head"))).stdout;
      assert.match(head, /content-length: 1234/i);
      const trailed = await curl(world, version, "-i", at("/t"));
      assert.match(trailed.stdout, /body/);
    }
    const raw = await sendRaw(
      world,
      `api.test:${port}`,
      `GET /t HTTP/1.1\r\nHost: api.test:${port}\r\nTE: trailers\r\nConnection: close\r\n\r\n`,
    );
    assert.match(raw, /X-Sum: 42\r\n/i);
    await draftsOf(world, 9);
  });

  test(`${name}: a credential is put in at the edge, and taken out of all that comes back`, async () => {
    const seen: (string | undefined)[] = [];
    await using server = await startUpstream((request, response) => {
      seen.push(request.headers.authorization);
      response.writeHead(200, { "x-echo": request.headers.authorization });
      response.write(`you are ${request.headers.authorization?.slice(0, 15)}`);
      setImmediate(() => response.end(request.headers.authorization?.slice(15)));
    });
    const { port } = server;
    const credential = { secret: "forge/token", header: "Authorization", format: "Bearer {}" };
    const rules = [
      {
        action: "inject" as const,
        hosts: ["api.test"],
        ports: [port],
        is_private: true,
        credential,
      },
    ];
    const secrets = { "forge/token": SECRET };
    await using world = await openWorld(open, { policy: { rules }, secrets });
    const ran = await curl(world, "-i", `https://api.test:${port}/me`);
    assert.deepEqual(seen, [`Bearer ${SECRET}`]);
    assert.ok(!ran.stdout.includes(SECRET), ran.stdout);
    assert.match(ran.stdout, /you are Bearer \{\{secret:forge\/token\}\}/);
    assert.match(ran.stdout, /x-echo: Bearer \{\{secret:forge\/token\}\}/i);
    const draft = await onlyDraft(world);
    assert.deepEqual(draft.credentials, ["forge/token"]);
    assert.ok(draft.secrets.includes(SECRET));
    const { secrets: known, ...rest } = draft;
    assert.ok(known.length > 0);
    assert.ok(!JSON.stringify(rest).includes(SECRET));
    assert.ok(!draft.response?.body?.kept.includes(SECRET));
  });

  test(`${name}: a server that is not there, or is somebody else, is 502 and recorded`, async () => {
    await using server = await startUpstream((_, response) => response.end());
    await using plain = await startUpstream((_, response) => response.end(), { isPlain: true });
    const ports = [server.port, plain.port, 9];
    const rules = [{ action: "allow" as const, hosts: ["api.test"], ports, is_private: true }];
    await using world = await openWorld(open, { policy: { rules } });
    for (const port of [plain.port, 9]) {
      const ran = await curl(
        world,
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        `https://api.test:${port}/`,
      );
      assert.equal(ran.stdout, "502", ran.stderr);
    }
    const drafts = await draftsOf(world, 2);
    for (const { decision, error } of drafts) {
      assert.equal(decision.action, "allow");
      assert.notEqual(error, null);
    }
  });
}

export async function draftsOf(world: World, count: number): Promise<FlowDraft[]> {
  const { drafts } = world.guard;
  await eventually(
    () => drafts.length,
    (length) => length >= count,
  );
  assert.equal(
    drafts.length,
    count,
    JSON.stringify(
      drafts.map(({ request, decision, error }) => ({ path: request?.path, decision, error })),
    ),
  );
  return drafts;
}

export async function onlyDraft(world: World): Promise<FlowDraft> {
  const [draft] = await draftsOf(world, 1);
  assert.ok(draft !== undefined);
  return draft;
}

export function headerOf(
  headers: readonly (readonly [string, string])[] | undefined,
  name: string,
): string | undefined {
  return headers?.find(([other]) => other.toLowerCase() === name)?.[1];
}
