/** Goal: a restart listens where it listened before, unless that was decided or taken otherwise. */
import assert from "node:assert/strict";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { test } from "node:test";
import { choosePort } from "../../../orchestrator/runtime/ports.ts";

const HOST = "127.0.0.1";

test("the port of last time, once it is free", async () => {
  const server = createServer();
  await new Promise<void>((resolve) => {
    server.listen(0, HOST, resolve);
  });
  const { port } = server.address() as AddressInfo;
  const lastUrl = `http://${HOST}:${port}`;

  assert.equal(await choosePort(0, HOST, lastUrl), 0);
  await new Promise((resolve) => server.close(resolve));
  assert.equal(await choosePort(0, HOST, lastUrl), port);
});

test("a port that was asked for is taken, and no address is no port", async () => {
  assert.equal(await choosePort(7700, HOST, `http://${HOST}:7800`), 7700);
  assert.equal(await choosePort(0, HOST, undefined), 0);
  assert.equal(await choosePort(0, HOST, "not an address"), 0);
  assert.equal(await choosePort(0, HOST, `http://${HOST}`), 0);
});
