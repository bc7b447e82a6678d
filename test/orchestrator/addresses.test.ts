/** Goal: workers of other machines are told addresses that they can reach, or there is no start. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { gatewayAddress, refuseNoAddress } from "../../orchestrator/addresses.ts";

const FLEET = { host: "0.0.0.0", apiUrl: "http://10.0.0.5:7700", scheduler: "fleet" } as const;

test("on a wildcard the gateway is told by the API's host and its own port", () => {
  const listensAt = "http://0.0.0.0:7701";
  const cases = [
    [FLEET, listensAt, "http://10.0.0.5:7701"],
    [{ ...FLEET, scheduler: "nomad" }, listensAt, "http://10.0.0.5:7701"],
    // A load balancer's TLS is the API's; the gateway speaks without.
    [
      { ...FLEET, apiUrl: "https://autocode.example.org" },
      listensAt,
      "http://autocode.example.org:7701",
    ],
    [
      { ...FLEET, host: "::", apiUrl: "http://[fd00::5]:7700" },
      "http://[::]:7701",
      "http://[fd00::5]:7701",
    ],
    [FLEET, "http://0.0.0.0:80", "http://10.0.0.5:80"],
    // An address that is one stays, and so does that for workers of this machine.
    [{ ...FLEET, host: "10.0.0.6" }, "http://10.0.0.6:7701", "http://10.0.0.6:7701"],
    [{ ...FLEET, host: "fd00::6" }, "http://[fd00::6]:7701", "http://[fd00::6]:7701"],
    [{ ...FLEET, scheduler: "local" }, listensAt, listensAt],
  ] as const;
  for (const [config, url, told] of cases) assert.equal(gatewayAddress(config, url), told);
});

test("a wildcard without the API's address is refused by name", () => {
  for (const host of ["0.0.0.0", "::", "[::]", "0", "::0"]) {
    assert.throws(() => refuseNoAddress({ ...FLEET, host, apiUrl: null }), {
      name: "ConfigError",
      message: /^AUTOCODE_API_URL: must be set where AUTOCODE_HOST is [[:0]/,
    });
  }
  for (const fine of [
    FLEET,
    { ...FLEET, host: "127.0.0.1", apiUrl: null },
    { ...FLEET, host: "worker.example.org", apiUrl: null },
    { ...FLEET, scheduler: "local", apiUrl: null },
  ] as const) {
    assert.doesNotThrow(() => refuseNoAddress(fine));
  }
});
