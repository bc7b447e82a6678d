/**
 * Goal: what a session is told, for each way to get something out that is not allowed: names that
 * change their addresses (S2), names that disagree (S3), credentials and canaries (S4), and fields
 * that name another upstream (S5).
 *
 * Method: the deciding core over names, secrets and policies of the test; nothing is connected to.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { EgressRule } from "../../../orchestrator/contract/egress.ts";
import type { RequestDecision, RequestHead } from "../../../proxy/egress/guard.ts";
import { CANARY, headOf, openDecisions, PUBLIC } from "./deciding.ts";

const ALLOW: EgressRule = { action: "allow", hosts: ["api.example.org"] };
const HOST = "https://api.example.org/v1";
const SECRET = "s3cr3t+value/for=the.forge";

test("S2: rebinding, a CNAME to private, a mix of addresses, and TTL 0", async (t) => {
  const egress = { rules: [ALLOW] };
  const name = "api.example.org";
  await t.test(
    "a public answer, then a private one: each is checked, and only it handed over",
    async () => {
      const names = { [name]: [[PUBLIC], ["127.0.0.1"], ["93.184.215.15"]] };
      const session = openDecisions({ egress, names });
      const first = await session.connect({ host: name, port: 443 });
      assert.ok(first.outcome === "open");
      assert.deepEqual(first.addresses, [PUBLIC]);
      const second = await session.request(headOf(HOST));
      assert.equal(second.decision.reason, "private_address");
      const third = await session.request(headOf(HOST));
      assert.ok(third.outcome === "forward");
      assert.deepEqual(third.addresses, ["93.184.215.15"]);
    },
  );
  for (const answer of [
    ["10.0.0.7"],
    [PUBLIC, "192.168.1.1"],
    ["2606:4700::1111", "::1"],
    [PUBLIC, "::ffff:10.0.0.1"],
    ["0.0.0.0"],
    ["169.254.169.254"],
    ["64:ff9b::a9fe:a9fe"],
  ]) {
    await t.test(`the answer ${answer.join(" ")}`, async () => {
      const session = openDecisions({ egress, names: { [name]: [answer] } });
      const tunnel = await session.connect({ host: name, port: 443 });
      assert.equal(tunnel.decision.reason, "private_address");
      assert.equal((await session.request(headOf(HOST))).decision.reason, "private_address");
    });
  }
  await t.test("no answer is no address", async () => {
    const session = openDecisions({ egress, names: { [name]: [[]] } });
    assert.equal((await session.connect({ host: name, port: 443 })).decision.reason, "unresolved");
  });
  await t.test("what no rule allows is not even asked for: a name can carry a secret", async () => {
    const session = openDecisions({ egress });
    await session.connect({ host: "leak-of-something.evil.example", port: 443 });
    await session.request(headOf("https://leak-of-something.evil.example/"));
    assert.deepEqual(session.asked, []);
  });
});

test("S3: CONNECT, SNI and Host name one host, and a name that hides is refused", async () => {
  const { request, hello } = openDecisions({ egress: { rules: [{ ...ALLOW, hosts: ["*"] }] } });
  const target = { host: "api.example.org", port: 443 };
  const tls = { serverName: target.host, protocols: [], hasEncryptedHello: false };
  const reasonOf = async (more: Partial<RequestHead>) => {
    return (await request(headOf(HOST, more))).decision.reason;
  };
  assert.equal(await reasonOf({}), "rule");
  assert.equal(await reasonOf({ authority: "API.example.org.:443" }), "rule");
  assert.equal(await reasonOf({ authority: "other.example.org" }), "name_mismatch");
  assert.equal(await reasonOf({ authority: "api.example.org:8443" }), "name_mismatch");
  assert.equal(await reasonOf({ authority: null }), "bad_request");
  assert.equal(await reasonOf({ authority: "u@api.example.org" }), "bad_request");
  assert.equal(await reasonOf({ serverName: "other.example.org" }), "name_mismatch");
  assert.equal(await reasonOf({ serverName: PUBLIC }), "name_mismatch");
  assert.equal(await reasonOf({ serverName: null }), "no_server_name");
  const hellos = [
    [tls, "rule"],
    [{ ...tls, serverName: "front.example.org" }, "name_mismatch"],
    [{ ...tls, serverName: null }, "no_server_name"],
    [{ ...tls, serverName: "127.0.0.1" }, "name_mismatch"],
    [{ ...tls, hasEncryptedHello: true }, "rule"],
    [{ ...tls, hasEncryptedHello: true, serverName: "outer.example" }, "name_mismatch"],
    [{ ...tls, hasEncryptedHello: true, serverName: null }, "no_server_name"],
    [null, "rule"],
  ] as const;
  for (const [said, reason] of hellos) {
    assert.equal((await hello(target, said)).decision.reason, reason, JSON.stringify(said));
  }
  const pinned = openDecisions({ egress: { rules: [{ ...ALLOW, action: "passthrough" }] } });
  assert.equal((await pinned.hello(target, null)).decision.reason, "not_http");
  const passed = await pinned.hello(target, tls);
  assert.ok(passed.outcome === "open" && passed.how === "passthrough");
  const hidden = await pinned.hello(target, { ...tls, hasEncryptedHello: true });
  assert.equal(hidden.decision.reason, "no_server_name", "nobody would see whom it reaches");
  assert.match(hidden.decision.detail, /let the rule intercept it, or set allows_encrypted_hello/);
  const named = openDecisions({ egress: { rules: [{ ...ALLOW, hosts: [PUBLIC] }] } });
  const bare = await named.hello({ host: PUBLIC, port: 443 }, { ...tls, serverName: null });
  assert.equal(bare.outcome, "open");
});

test("S3: a rule that says so passes a hidden name through, to its own addresses alone", async () => {
  const rule = { ...ALLOW, action: "passthrough" as const, allows_encrypted_hello: true };
  const { hello, connect } = openDecisions({ egress: { rules: [rule] } });
  const target = { host: "api.example.org", port: 443 };
  const tls = { serverName: target.host, protocols: [], hasEncryptedHello: true };
  assert.equal(
    (await connect(target)).decision.detail,
    "rules[0] passes TLS to api.example.org through",
  );
  const { decision, ...passed } = await hello(target, tls);
  assert.deepEqual([decision.action, decision.reason], ["passthrough", "rule"]);
  assert.match(decision.detail, /through; it may be for a name that it hides$/);
  assert.ok(passed.outcome === "open" && passed.how === "passthrough");
  assert.deepEqual(passed.addresses, [PUBLIC]);
  for (const [serverName, reason] of [
    ["front.example.org", "name_mismatch"],
    [null, "no_server_name"],
  ] as const) {
    assert.equal((await hello(target, { ...tls, serverName })).decision.reason, reason);
  }
});

test("a request that can be read in two ways is refused", async () => {
  const { request } = openDecisions({ egress: { rules: [ALLOW] } });
  const headers: readonly RequestHead["headers"][] = [
    [
      ["Host", "a"],
      ["host", "b"],
    ],
    [
      ["Content-Length", "1"],
      ["content-length", "1"],
    ],
    [
      ["Content-Length", "1"],
      ["Transfer-Encoding", "chunked"],
    ],
    [["Transfer-Encoding", "chunked, identity"]],
    [["Content-Length", "+1"]],
    [["X-A", "1\r\nX-B: 2"]],
    [["X A", "1"]],
    [["", "1"]],
  ];
  for (const one of headers) {
    const { decision } = await request(headOf(HOST, { headers: one }));
    assert.equal(decision.reason, "bad_request", JSON.stringify(one));
  }
  for (const more of [
    { method: "get" },
    { method: "CONNECT" },
    { path: "/a/../b" },
    { path: "x" },
  ]) {
    assert.equal((await request(headOf(HOST, more))).decision.reason, "bad_request");
  }
});

test("S4: a credential that we did not give is refused on an allowed host", async () => {
  const { request } = openDecisions({ egress: { rules: [ALLOW] } });
  const token = `${"gh"}p_${"a1B2".repeat(9)}`;
  const heads: readonly Partial<RequestHead>[] = [
    { headers: [["Authorization", "Bearer anything"]] },
    { headers: [["x-api-key", "anything"]] },
    { headers: [["api-key", "anything"]] },
    { headers: [["PRIVATE-TOKEN", "anything"]] },
    { headers: [["X-Custom", token]] },
    { headers: [["Cookie", `session_id=${"0123456789abcdef"}`]] },
    { headers: [["User-Agent", `curl ${token}`]] },
    { path: `/v1?t=${token}` },
    { path: `/v1?t=${[...token].map((c) => `%${c.charCodeAt(0).toString(16)}`).join("")}` },
    { path: "/v1?access_token=0123456789" },
    { path: "/v1", headers: [["X-Jwt", `eyJ${"a".repeat(20)}.eyJ${"b".repeat(20)}.c`]] },
  ];
  for (const head of heads) {
    const { decision } = await request(headOf(HOST, head));
    assert.equal(decision.reason, "foreign_credential", JSON.stringify(head));
    assert.ok(!decision.detail.includes(token));
  }
  const open = openDecisions({ egress: { rules: [{ ...ALLOW, allows_credentials: true }] } });
  for (const head of heads)
    assert.equal((await open.request(headOf(HOST, head))).outcome, "forward");
});

test("S4: the canary leaves in no form, to no host, whoever allows it", async () => {
  const [id = "", key = ""] = CANARY.split(":");
  const inAll = [id, key].flatMap((part) => [
    part,
    Buffer.from(part).toString("base64"),
    Buffer.from(`x${part}`).toString("base64"),
    Buffer.from(`xy${part}z`).toString("base64"),
    Buffer.from(`key=${part}&`).toString("base64url"),
    Buffer.from(part).toString("hex"),
    Buffer.from(part).toString("hex").toUpperCase(),
    [...part].map((c) => `%${c.charCodeAt(0).toString(16)}`).join(""),
    [...part].reverse().join(""),
    part.toLowerCase(),
  ]);
  for (const form of inAll) {
    const session = openDecisions({
      egress: { mode: "warn", rules: [{ ...ALLOW, allows_credentials: true }] },
    });
    const tries: readonly RequestHead[] = [
      headOf(HOST, { path: `/v1?q=${form}` }),
      headOf(HOST, { path: `/${form}/x` }),
      headOf(HOST, { headers: [["X-Note", `see ${form}`]] }),
      headOf(HOST, { headers: [["Authorization", `Basic ${form}`]] }),
      headOf("https://denied.example/", { path: `/${form}` }),
    ];
    for (const head of tries) {
      assert.equal((await session.request(head)).decision.reason, "canary", form);
    }
    assert.equal(session.seen.canaries, tries.length);
  }
  const session = openDecisions({ egress: {} });
  const label = `${id.slice(0, 8)}.${id.slice(8)}.evil.example`.toLowerCase();
  assert.equal((await session.connect({ host: label, port: 443 })).decision.reason, "canary");
  const clean = await openDecisions({ egress: { rules: [ALLOW] } }).request(headOf(HOST));
  assert.ok(clean.outcome === "forward");
  for (const form of inAll.filter((text) => !text.includes("%"))) {
    // In a body the engine looks for the forms alone.
    assert.ok(
      clean.canaries.some((known) => form.includes(known)),
      form,
    );
  }
});

test("S5: no header, field or redirect changes where a request goes", async () => {
  const { request } = openDecisions({ egress: { rules: [ALLOW] } });
  const headers: [string, string][] = [
    ["X-Forwarded-Host", "169.254.169.254"],
    ["X-Original-URL", "/admin"],
    ["X-Rewrite-URL", "/admin"],
    ["X-Host", "evil.example"],
    ["Forwarded", "host=evil.example"],
    ["Proxy-Connection", "keep-alive"],
    ["Proxy-Authorization", "Basic eA=="],
    ["base_url", "http://127.0.0.1"],
    ["X-Kept", "1"],
  ];
  const decided = await request(headOf(`${HOST}?api_base=http://10.0.0.1&base_url=x`, { headers }));
  assert.ok(decided.outcome === "forward");
  assert.equal(decided.host, "api.example.org");
  assert.deepEqual(decided.addresses, [PUBLIC]);
  assert.deepEqual(decided.headers, [
    ["base_url", "http://127.0.0.1"],
    ["X-Kept", "1"],
  ]);
  // Where an answer sends the worker is a request of its own.
  for (const url of ["http://169.254.169.254/latest/meta-data", "https://evil.example/"]) {
    assert.equal((await request(headOf(url))).decision.reason, "no_rule");
  }
  const readOnly = openDecisions({ egress: { rules: [{ ...ALLOW, methods: ["GET"] }] } });
  const disguised = headOf(HOST, { headers: [["X-HTTP-Method-Override", "DELETE"]] });
  assert.equal((await readOnly.request(disguised)).decision.reason, "no_rule");
});

test("an injected credential: for its rule's hosts alone, where it was asked for, scrubbed", async () => {
  const credential = { secret: "forge/token" };
  const inject: EgressRule = { action: "inject", hosts: ["forge.example"], credential };
  const egress = { rules: [inject, ALLOW] };
  const session = openDecisions({ egress, secrets: { "forge/token": `${SECRET}\n` } });
  const placeholder = "{{secret:forge/token}}";
  const basic = Buffer.from(`git:${placeholder}`).toString("base64");
  const url = "https://forge.example/a";
  const get = async (headers: RequestHead["headers"], at = url): Promise<RequestDecision> =>
    session.request(headOf(at, { headers }));

  const bearer = await get([["Authorization", `Bearer ${placeholder}`]]);
  assert.ok(bearer.outcome === "forward");
  assert.equal(bearer.decision.action, "inject");
  assert.deepEqual(bearer.headers, [["Authorization", `Bearer ${SECRET}`]]);
  assert.deepEqual(bearer.credentials, ["forge/token"]);
  const scrubs = bearer.scrubs.map(({ value }) => value);
  for (const form of [SECRET, encodeURIComponent(SECRET), Buffer.from(SECRET).toString("hex")]) {
    assert.ok(scrubs.includes(form), form);
  }
  assert.ok(bearer.scrubs.every((scrub) => scrub.placeholder === placeholder));

  const git = await get([["Authorization", `Basic ${basic}`]]);
  assert.ok(git.outcome === "forward");
  const sent = git.headers[0]?.[1].slice("Basic ".length) ?? "";
  assert.equal(Buffer.from(sent, "base64").toString(), `git:${SECRET}`);
  assert.ok(session.values.includes(SECRET) && session.values.includes(sent));

  assert.equal((await get([])).decision.action, "allow");
  assert.equal(
    (await get([["Authorization", "Bearer mine"]])).decision.reason,
    "foreign_credential",
  );
  const elsewhere = await get([["Authorization", `Bearer ${placeholder}`]], HOST);
  assert.equal(elsewhere.decision.reason, "credential_failed");
  const other = await get([["Authorization", "Bearer {{secret:provider/openai}}"]]);
  assert.equal(other.decision.reason, "credential_failed");
  const clear = await get([["Authorization", `Bearer ${placeholder}`]], "http://forge.example/a");
  assert.match(clear.decision.detail, /without TLS/);
  assert.ok(!JSON.stringify([elsewhere, other, clear]).includes(SECRET));
});

test("a credential: a forced header, a rotation, a secret that is gone, and one that is sealed", async () => {
  const credential = { secret: "key", header: "X-Api-Key", format: "k:{}" };
  const egress = { rules: [{ action: "inject" as const, hosts: ["api.example.org"], credential }] };
  const secrets: Record<string, string | Error> = { key: "the-first-one" };
  const { request } = openDecisions({ egress, secrets });
  const ask = () => request(headOf(HOST, { headers: [["x-api-key", "the worker's own"]] }));
  for (const value of ["the-first-one", "another-$&-one"]) {
    secrets["key"] = value;
    const decided = await ask();
    assert.ok(decided.outcome === "forward");
    assert.deepEqual(decided.headers, [["X-Api-Key", `k:${value}`]]);
  }
  for (const value of [new Error("sealed: key file of /etc"), " ", "two\nlines"]) {
    secrets["key"] = value;
    const decided = await ask();
    assert.equal(decided.decision.reason, "credential_failed");
    assert.ok(!decided.decision.detail.includes("/etc"));
  }
});

test("what would choose pieces of an answer is sent on only where no secret was put in", async () => {
  const credential = { secret: "key", header: "X-Api-Key" };
  const inject = { action: "inject" as const, hosts: ["api.example.org"], credential };
  const headers = [
    ["Range", "bytes=0-9"],
    ["if-range", '"tag"'],
    ["Request-Range", "bytes=0-9"],
    ["X-MS-Range", "bytes=0-9"],
    ["X-Other", "stays"],
  ] as const;
  const namesSent = async (rule: object) => {
    const session = openDecisions({
      egress: { rules: [{ ...ALLOW, ...rule }] },
      secrets: { key: "the-secret-value" },
    });
    const decided = await session.request(headOf(HOST, { headers }));
    assert.ok(decided.outcome === "forward");
    return decided.headers.map(([name]) => name);
  };
  assert.deepEqual(await namesSent(inject), ["X-Other", "X-Api-Key"]);
  assert.deepEqual(
    await namesSent({}),
    headers.map(([name]) => name),
  );
});

test("limits: sizes, rates, what a trial may send, and a record that is required", async () => {
  const rule = { ...ALLOW, request_bytes_max: 30, response_bytes_max: 20, requests_per_minute: 2 };
  const session = openDecisions({ egress: { rules: [rule] } });
  const decided = await session.request(headOf(HOST));
  assert.ok(decided.outcome === "forward");
  assert.deepEqual([decided.requestBytesMax, decided.responseBytesMax], [10, 20]);
  const large = await session.request(headOf(HOST, { bodyByteCount: 11 }));
  assert.ok(large.outcome === "refuse" && large.refusal.status === 413);
  await session.request(headOf(HOST));
  const fast = await session.request(headOf(HOST));
  assert.ok(fast.outcome === "refuse" && fast.refusal.status === 429);
  session.clock.ms += 30_000;
  assert.equal((await session.request(headOf(HOST))).outcome, "forward");

  const egress = { rules: [ALLOW], request_bytes_per_trial_max: 100, require_record: true };
  const spent = await openDecisions({ egress, sent: 100 }).request(headOf(HOST));
  assert.equal(spent.decision.reason, "too_large");
  const full = openDecisions({ egress, recordFault: "the disk is full" });
  const unrecorded = await full.request(headOf(HOST));
  assert.ok(unrecorded.outcome === "refuse" && unrecorded.refusal.status === 503);
});

test("a request's head counts: what leaves in paths and headers is no more than may leave", async () => {
  // "GET /v1 HTTP/1.1", its end, and an empty line.
  const bare = 20;
  const rule = { ...ALLOW, request_bytes_max: 100 };
  const session = openDecisions({ egress: { rules: [rule], request_bytes_per_trial_max: 150 } });
  const ask = (size: number, more: Partial<RequestHead> = {}) =>
    session.request(headOf(HOST, { headers: [["a", "x".repeat(size)]], ...more }));
  // A header's name, colon, space and end of line are five bytes here.
  assert.equal((await ask(76)).decision.reason, "too_large");
  assert.equal((await ask(70, { bodyByteCount: 6 })).decision.reason, "too_large");
  const path = `/${"x".repeat(100)}`;
  assert.equal((await ask(0, { path })).decision.reason, "too_large");
  assert.equal(session.seen.sent, 0);
  const decided = await ask(75);
  assert.ok(decided.outcome === "forward");
  assert.equal(decided.requestBytesMax, 0);
  assert.equal(session.seen.sent, bare + 5 + 75);
  assert.equal((await ask(26)).decision.reason, "too_large");
  assert.equal((await ask(20, { bodyByteCount: 6 })).decision.reason, "too_large");
  // Of many at a time as many as fit are let through.
  const many = await Promise.all([ask(0), ask(0), ask(0)]);
  assert.deepEqual(
    many.map(({ outcome }) => outcome),
    ["forward", "forward", "refuse"],
  );
  assert.equal(session.seen.sent, 150);
});

test("a name counts as it leaves: a tunnel's once, and what is looked up without TLS", async () => {
  const rules = [{ ...ALLOW, hosts: ["*.example.org"] }];
  const names = { "gone.example.org": [[]] };
  const open = (max: number) =>
    openDecisions({ egress: { rules, request_bytes_per_trial_max: max }, names });
  const session = open(40);
  const target = { host: "gone.example.org", port: 443 };
  assert.equal((await session.connect(target)).decision.reason, "unresolved");
  assert.equal(session.seen.sent, 16, "a look-up that nobody answers has left all the same");
  const there = { host: "a.example.org", port: 443 };
  assert.equal((await session.connect(there)).outcome, "open");
  const hello = { serverName: "a.example.org", protocols: [], hasEncryptedHello: false };
  assert.equal((await session.hello(there, hello)).outcome, "open");
  assert.equal(session.seen.sent, 29, "once, though it is asked about twice");
  const refused = await session.connect(there);
  assert.ok(refused.outcome === "refuse");
  assert.equal(refused.decision.reason, "too_large");
  assert.equal(session.seen.sent, 29);
  assert.deepEqual(session.asked, ["gone.example.org", "a.example.org", "a.example.org"]);
  const clear = open(50);
  const head = headOf("http://gone.example.org/");
  assert.equal((await clear.request(head)).decision.reason, "unresolved");
  assert.equal(clear.seen.sent, 16);
});

test("mode: warn lets through what a rule could, and nothing else", async () => {
  const session = openDecisions({
    egress: { mode: "warn", rules: [{ ...ALLOW, action: "deny" }] },
    names: { "inside.example": [["10.0.0.1"]] },
  });
  const cases: readonly [RequestHead, string][] = [
    [headOf(HOST), "warned"],
    [headOf("https://nobody.example/"), "warned"],
    [headOf("https://nobody.example/", { headers: [["Authorization", "Bearer x"]] }), "warned"],
    [headOf("https://inside.example/"), "private_address"],
    [headOf("http://127.0.0.1/"), "private_address"],
    [headOf(HOST, { authority: "other.example" }), "name_mismatch"],
    [headOf(HOST, { path: `/${CANARY.split(":")[0]}` }), "canary"],
  ];
  for (const [head, reason] of cases) {
    const { decision } = await session.request(head);
    assert.equal(decision.reason, reason, head.path);
    assert.equal(decision.action, reason === "warned" ? "allow" : "deny");
  }
  assert.equal((await session.connect({ host: "nobody.example", port: 443 })).outcome, "open");
});

test("the gateway is reached where the policy says so, with the worker's own key", async () => {
  const gateway = "127.0.0.1:9000";
  const own = ["127.0.0.1:9000"];
  const head = headOf("http://127.0.0.1:9000/v1/messages", {
    headers: [
      ["x-api-key", "virtual"],
      ["X-Env", CANARY],
    ],
  });
  const through = openDecisions({ egress: { llm_through_proxy: true }, gateway, own });
  const decided = await through.request(head);
  assert.ok(decided.outcome === "forward");
  assert.equal(decided.decision.reason, "gateway");
  assert.deepEqual(decided.headers, head.headers);
  assert.equal(through.seen.canaries, 0);
  const direct = openDecisions({ egress: {}, gateway, own });
  assert.equal((await direct.request({ ...head, headers: [] })).decision.reason, "no_rule");
});
