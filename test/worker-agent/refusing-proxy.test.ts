/** Goal: everything that comes by the proxy variables is refused and told, and nothing floods. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { request } from "node:http";
import { test } from "node:test";
import {
  openRefusingProxy,
  proxyVariables,
  type RefusedRequest,
} from "../../worker-agent/refusing-proxy.ts";

async function ask(proxyUrl: string, method: string, path: string): Promise<number | undefined> {
  const { hostname, port } = new URL(proxyUrl);
  const asked = request({ host: hostname, port, method, path });
  asked.end();
  const event = method === "CONNECT" ? "connect" : "response";
  const [response] = await once(asked, event);
  response.resume();
  return response.statusCode;
}

test("requests and tunnels are refused with 403 and told", async () => {
  const told: RefusedRequest[] = [];
  await using proxy = await openRefusingProxy((refused) => told.push(refused));
  assert.equal(await ask(proxy.url, "POST", "http://stats.example.com:8080/v1"), 403);
  assert.equal(await ask(proxy.url, "CONNECT", "home.example.com:443"), 403);
  for (let times = 0; times < 30; times++) await ask(proxy.url, "CONNECT", "again.example.com:443");
  assert.deepEqual(told.slice(0, 2), [
    { host: "stats.example.com:8080", method: "POST" },
    { host: "home.example.com:443", method: "CONNECT" },
  ]);
  assert.equal(told.filter(({ host }) => host === "again.example.com:443").length, 20);
});

test("the variables lead past the proxy to the gateway alone", () => {
  const no = "gateway.internal,127.0.0.1,localhost,::1";
  assert.deepEqual(proxyVariables("http://127.0.0.1:9", "http://gateway.internal:8080/x"), {
    http_proxy: "http://127.0.0.1:9",
    https_proxy: "http://127.0.0.1:9",
    no_proxy: no,
    HTTP_PROXY: "http://127.0.0.1:9",
    HTTPS_PROXY: "http://127.0.0.1:9",
    NO_PROXY: no,
  });
});
