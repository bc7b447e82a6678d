/**
 * What both ways of isolation hold: the two servers are reached and nothing else, nobody's files
 * and processes are seen, nothing can be gained, and the end of a program is told as it was.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { eventually } from "../../support/eventually.ts";
import { markedProcesses } from "../../support/worker-world.ts";
import { openIsolatedWorld, type WorldOptions } from "./world.ts";

export interface IsolationUnderTest extends WorldOptions {
  /** Why it cannot be tested here; false when it can. */
  readonly skip: string | false;
}

export function testIsolation(name: string, { skip, ...options }: IsolationUnderTest): void {
  test(`${name}: reaches the proxy and the gateway, and nothing else`, { skip }, async (t) => {
    const other = createServer((socket) => socket.end("reached"));
    await new Promise<void>((resolve) => other.listen(0, "0.0.0.0", resolve));
    t.after(() => other.close());
    const { port } = other.address() as { port: number };
    await using world = await openIsolatedWorld(options);
    const get = (url: string) => `curl -s --noproxy '*' -m 5 ${url} || echo "failed $?"`;
    const { said } = await world.sh(
      [
        get("$PROXY/asked"),
        get("$GATEWAY/models"),
        get(`http://127.0.0.1:${port}/`),
        get(`http://$(echo $PROXY | cut -d/ -f3 | cut -d: -f1):${port}/`),
        get("http://192.0.2.1/"),
        get("http://[2001:db8::1]/"),
        "getent hosts example.org || echo unknown",
      ].join("\n"),
    );
    assert.deepEqual(said.trim().split("\n"), [
      "proxy /asked",
      "gateway /v1/models",
      ...["failed 7", "failed 7", "failed 7", "failed 7", "unknown"],
    ]);
  });

  test(`${name}: large bodies pass unharmed, both ways`, { skip }, async (t) => {
    const echo = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
    await new Promise<void>((resolve) => echo.listen(0, "127.0.0.1", resolve));
    t.after(() => echo.close());
    const { port } = echo.address() as { port: number };
    const proxyUrl = `http://127.0.0.1:${port}`;
    await using world = await openIsolatedWorld({ ...options, proxyUrl });
    const client = `
      const { connect } = require("net"); const { createHash, randomBytes } = require("crypto");
      const { hostname: host, port } = new URL(process.env.PROXY);
      const sent = randomBytes(8_000_000), heard = createHash("sha256");
      const socket = connect({ host, port, allowHalfOpen: true });
      socket.on("data", (bytes) => heard.update(bytes));
      socket.on("end", () => console.log(heard.digest("hex") ===
        createHash("sha256").update(sent).digest("hex")));
      socket.end(sent);`;
    const { said } = await world.sh(`node -e '${client}'`);
    assert.equal(said.trim(), "true");
  });

  test(`${name}: nobody's files and processes are seen`, { skip }, async () => {
    await using world = await openIsolatedWorld(options);
    writeFileSync(join(world.rooms.private, "hidden-test.txt"), "not for agents");
    const { said } = await world.sh(
      [
        `cat ${world.home}/others/secret.txt ${world.rooms.private}/hidden-test.txt 2>/dev/null`,
        `ls ${world.home}`,
        `cat ${world.home}/agents/program.txt; echo`,
        `touch ${world.home}/agents/new 2>/dev/null && echo changed an agent`,
        "(echo changed > /etc/autocode-was-here) 2>/dev/null && rm /etc/autocode-was-here && echo changed the host",
        "[ -w /proc/sys/kernel/core_pattern ] && echo may change the kernel",
        `[ -e /proc/${process.pid} ] && echo saw another process`,
        "ls -A /run | grep -v -e resolvconf -e systemd",
        "echo mine > /tmp/mine; echo kept > kept.txt",
        "ls -A /dev/shm",
        "awk '/^(CapEff|CapPrm|CapBnd|NoNewPrivs)/ { print $1 $2 }' /proc/self/status",
      ].join("\n"),
    );
    const none = "0000000000000000";
    assert.deepEqual(said.trim().split("\n"), [
      ...["agents", "allocation", "an agent"],
      ...[`CapPrm:${none}`, `CapEff:${none}`, `CapBnd:${none}`, "NoNewPrivs:1"],
    ]);
    assert.equal(readFileSync(join(world.rooms.tmp, "mine"), "utf8"), "mine\n");
    assert.equal(readFileSync(join(world.rooms.home, "kept.txt"), "utf8"), "kept\n");
    assert.equal(existsSync("/tmp/mine"), false);
  });

  test(`${name}: the end is told as it was`, { skip }, async () => {
    await using world = await openIsolatedWorld(options);
    const endOf = async (script: string, terminal = false) => {
      const { exitCode, signal, cause } = (await world.sh(script, { terminal })).end;
      return [exitCode, signal, cause];
    };
    assert.deepEqual(await endOf("exit 0"), [0, null, "exited"]);
    assert.deepEqual(await endOf("exit 7"), [7, null, "exited"]);
    assert.deepEqual(await endOf("kill -9 $$"), [null, "SIGKILL", "exited"]);
    assert.deepEqual(await endOf("exit 3", true), [3, null, "exited"]);
  });

  test(`${name}: told to end, a program may still clean up`, { skip }, async () => {
    await using world = await openIsolatedWorld(options);
    const stop = new AbortController();
    const script = "trap 'echo cleaned; exit 5' TERM; echo ready; while :; do sleep 0.1; done";
    const onOutput = (said: string) => {
      if (said.includes("ready")) stop.abort();
    };
    const { said, end } = await world.sh(script, { stop: stop.signal, onOutput });
    assert.deepEqual(
      [said.split("\n").filter((line) => /^(ready|cleaned)$/.test(line)), end.exitCode, end.cause],
      [["ready", "cleaned"], 5, "stopped"],
    );
  });

  test(`${name}: what a program leaves running ends with it`, { skip }, async () => {
    await using world = await openIsolatedWorld(options);
    const { said } = await world.sh("(setsid env -i sleep 600 &) ; sleep 0.1; echo over");
    assert.equal(said.trim(), "over");
    await eventually(
      () => markedProcesses(world.allocationId).length,
      (count) => count === 0,
    );
  });

  test(`${name}: works in a terminal`, { skip }, async () => {
    await using world = await openIsolatedWorld(options);
    const { said } = await world.sh("test -t 0 && test -t 1 && echo a terminal; id -u", {
      terminal: true,
    });
    const uid = options.runAs?.uid ?? process.getuid?.();
    assert.deepEqual(said.trim().split("\n"), ["a terminal", String(uid)]);
  });
}
