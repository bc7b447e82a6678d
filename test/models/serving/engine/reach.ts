/**
 * The engine is the gateway's alone. It has no key that holds: `/invocations` answers whoever
 * reaches its port. Tried from inside a trial's network, with the trial's own key, through whatever
 * a worker has; what the engine itself counted says whether anything arrived.
 */
import assert from "node:assert/strict";
import { networkInterfaces } from "node:os";
import type { TestContext } from "node:test";
import { systemClock } from "../../../../orchestrator/runtime/clock.ts";
import { openEmbeddedProxy } from "../../../../proxy/egress/embedded.ts";
import { openNamespace } from "../../../../worker-agent/isolate/namespace.ts";
import { openSandbox } from "../../../../worker-agent/isolate/sandbox.ts";
import { ids, log, type OpenEngine, openWorld } from "../../../proxy/egress/world.ts";
import { whyNoOutside } from "../../../support/outside.ts";
import type { Vllm } from "../../../support/vllm.ts";
import { openIsolatedWorld } from "../../../worker-agent/isolate/world.ts";
import type { OpenGateway } from "./gateway.ts";

const openEngine: OpenEngine = ({ guard, sink, authority, extraCa }) =>
  openEmbeddedProxy(
    { guard, sink, authority, ids, clock: systemClock, log },
    { host: "127.0.0.1", port: 0, extraCa, headTimeoutMs: 3_000 },
  );

/** `$E`: the engine's port; `$P`: the proxy with credentials; `$G`: the gateway's `/v1`. */
const WAYS: Readonly<Record<string, string>> = {
  "its address": "--noproxy '*' http://127.0.0.1:$E/invocations",
  "its address by name": "--noproxy '*' http://localhost:$E/invocations",
  "its address, IPv6": "--noproxy '*' -g 'http://[::1]:$E/invocations'",
  "the host's address": "--noproxy '*' http://$HERE:$E/invocations",
  "where the proxy is": "--noproxy '*' http://$HOST:$E/invocations",
  "the proxy": "-x $P http://127.0.0.1:$E/invocations",
  "the proxy, by a name that the policy allows": "-x $P http://engine.test:$E/invocations",
  "the proxy, by localhost": "-x $P http://localhost:$E/invocations",
  "the proxy, by a number": "-x $P http://2130706433:$E/invocations",
  "the proxy, by a mapped address": "-x $P -g 'http://[::ffff:127.0.0.1]:$E/invocations'",
  "the proxy, by the host's address": "-x $P http://$HERE:$E/invocations",
  "a tunnel": "-p -x $P http://127.0.0.1:$E/invocations",
  "a tunnel by a name that the policy allows": "-p -x $P http://engine.test:$E/invocations",
  "the gateway": "--noproxy '*' $G/invocations",
  "the gateway's root": "--noproxy '*' $ROOT/invocations",
  "a way up": "--noproxy '*' --path-as-is $G/../invocations",
  "a way up from a call": "--noproxy '*' --path-as-is $G/chat/completions/../../invocations",
  "a way up, encoded": "--noproxy '*' --path-as-is $G/%2e%2e/invocations",
  "a slash, encoded": "--noproxy '*' --path-as-is $G/..%2finvocations",
  "two slashes": "--noproxy '*' --path-as-is $ROOT//invocations",
  "a parameter of a path": "--noproxy '*' --path-as-is '$G/chat/completions;/../invocations'",
  "an absolute target": "--noproxy '*' --request-target http://127.0.0.1:$E/invocations $ROOT",
  "another Host": "--noproxy '*' -H 'Host: 127.0.0.1:$E' $ROOT/invocations",
  "headers of proxies":
    "--noproxy '*' -H 'X-Original-URL: /invocations' -H 'X-Rewrite-URL: /invocations' $G/models",
  "the gateway as a proxy": "-x $ROOT http://127.0.0.1:$E/invocations",
  "the gateway as a tunnel": "-p -x $ROOT http://127.0.0.1:$E/invocations",
};
const BODY = { messages: [{ role: "user", content: "hi" }], max_tokens: 4 };

export async function testReach(t: TestContext, engine: Vllm, open: OpenGateway): Promise<void> {
  await t.test("without isolation it answers anybody, and no key is asked for", async () => {
    const response = await fetch(`${engine.url}/invocations`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "tiny", ...BODY }),
    });
    const text = await response.text();
    assert.equal(response.status, 200, text);
    assert.match(text, /"completion_tokens":/);
  });
  const skip = (await whyNoOutside()) ?? false;
  for (const [kind, isolate] of [
    ["namespace", openNamespace],
    ["sandbox", openSandbox],
  ] as const) {
    await t.test(`from a ${kind} the engine is not reached`, { skip }, async () => {
      await using world = await open();
      const hosts = ["engine.test", "localhost", "127.0.0.1"];
      await using egress = await openWorld(openEngine, {
        policy: { rules: [{ action: "allow", hosts, ports: [engine.port] }] },
      });
      await using trial = await openIsolatedWorld({
        open: isolate,
        runAs: { uid: 3_000_061, gid: 3_000_061 },
        proxyUrl: egress.proxy.url,
        gatewayUrl: `${world.url}/v1`,
      });
      const gateway = trial.isolation.gatewayUrl ?? "";
      const proxy = new URL(trial.isolation.proxyUrl);
      const post = (way: string, model: string) =>
        `curl -s -m 9 -o /dev/null -w '%{http_code}' -H 'content-type: application/json' \
          -H "authorization: Bearer $KEY" -d '${JSON.stringify({ model, ...BODY })}' ${way}`;
      const env = {
        PATH: "/usr/local/bin:/usr/bin:/bin",
        KEY: world.secret,
        E: String(engine.port),
        G: gateway,
        ROOT: gateway.replace(/\/v1$/, ""),
        P: `http://worker:pass@${proxy.host}`,
        HOST: proxy.hostname,
        HERE: addressHere() ?? proxy.hostname,
      };
      const run = async (line: string) => (await trial.sh(line, { env })).said.trim();

      // What it may, it can: the ways below are of a network that works.
      assert.equal(await run(post("--noproxy '*' $G/chat/completions", "normal")), "200");
      const before = await engine.counted();
      const lines = Object.entries(WAYS).map(
        ([name, way]) => `echo "${name}: $(${post(way, "tiny")})"`,
      );
      const said = (await run(lines.join("\n"))).split("\n");
      assert.equal(said.length, lines.length);
      assert.deepEqual(
        said.filter((line) => !/: (?:000|4\d\d|5\d\d)$/.test(line)),
        [],
      );
      assert.deepEqual(await engine.counted(), before);
    });
  }
}

function addressHere(): string | undefined {
  return Object.values(networkInterfaces())
    .flatMap((ends = []) => ends)
    .find(
      ({ internal, family, address }) =>
        !internal && family === "IPv4" && !/^(10\.213|11\.77)\./.test(address),
    )?.address;
}
