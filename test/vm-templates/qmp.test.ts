/**
 * Goal: the monitor's protocol is kept to the letter: commands are answered by their own answers,
 * refusals are told in qemu's words, and what is no qemu, or hangs, is told as that.
 *
 * Method: a real qemu; for what a qemu never says, a socket that says it.
 */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { Type } from "typebox";
import { Nothing, openQmp } from "../../vm-templates/qmp.ts";
import { openBlank, whyNoQemu } from "../support/qemu.ts";

const GREETING =
  '{"QMP": {"version": {"qemu": {"micro": 1, "minor": 2, "major": 9}, "package": ""}, "capabilities": ["oob"]}}';
/** What was sent to one that dies may be answered by a reset. */
const ENDED = /qemu ended the connection$|the connection broke: \w+ (?:ECONNRESET|EPIPE)$/;
const Status = Type.Object({ status: Type.String(), running: Type.Boolean() });

test("a real qemu: commands, refusals in its words, events, and its end", {
  skip: await whyNoQemu(),
}, async () => {
  await using vm = await openBlank();
  const child = await vm.start("-S");
  await using qmp = await openQmp(join(vm.folder, "qmp.sock"));
  assert.match(qmp.version, /^\d+\.\d+\.\d+$/);
  const status = await qmp.execute("query-status", {}, Status);
  assert.equal(status.running, false);
  await qmp.execute("cont", {}, Nothing);
  const resumed = await qmp.event(({ event }) => event === "RESUME");
  assert.ok(resumed.timestamp.seconds > 0);
  await assert.rejects(
    qmp.execute("no-such-command", {}, Nothing),
    /qmp\.sock: no-such-command: The command no-such-command has not been found$/,
  );
  await assert.rejects(
    qmp.execute("query-status", {}, Type.Object({ status: Type.Integer() })),
    /query-status: the answer has another form than qemu documents/,
  );
  const waiting = assert.rejects(
    qmp.event(() => false),
    ENDED,
  );
  child.kill("SIGKILL");
  await waiting;
  await assert.rejects(qmp.execute("query-status", {}, Status), ENDED);
});

test("a monitor that serves somebody else is told, and is there again afterwards", {
  skip: await whyNoQemu(),
}, async () => {
  await using vm = await openBlank();
  await vm.start("-S");
  const path = join(vm.folder, "qmp.sock");
  const first = await openQmp(path);
  await assert.rejects(openQmp(path, { greetingMs: 300 }), /another program has this monitor/);
  await first[Symbol.asyncDispose]();
  await using again = await openQmp(path);
  assert.equal(again.version, first.version);
});

test("where no qemu listens, and what is none", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "autocode-qmp-"));
  t.after(() => rm(folder, { recursive: true }));
  await assert.rejects(openQmp(join(folder, "none.sock")), (error: Error) => {
    assert.match(error.message, /none\.sock: no qemu answers there \(ENOENT\)$/);
    assert.equal((error.cause as NodeJS.ErrnoException).code, "ENOENT");
    return true;
  });
  const long = join(folder, "x".repeat(100));
  await assert.rejects(openQmp(long), /has \d+ bytes, and a socket's path may have 107; move the/);

  const cases: readonly [string, RegExp][] = [
    ["SSH-2.0-OpenSSH\r\n", /is no qemu's QMP: it says SSH-2\.0-OpenSSH$/],
    ['{"hello": 1}\r\n', /is no qemu's QMP: it greets otherwise$/],
    [`${GREETING}\r\n{"neither": 1}\r\n`, /a message that QMP has not: \{"neither": 1\}$/],
    [
      `${GREETING}\r\n{"return": {}, "id": 77}\r\n`,
      /an answer to nothing that was asked \(id 77\)$/,
    ],
    [
      `${GREETING}\r\n{"error": {"class": "GenericError", "desc": "No."}, "id": 1}\r\n`,
      /qmp_capabilities: No\.$/,
    ],
  ];
  for (const [index, [words, message]] of cases.entries()) {
    const path = await saying(t, join(folder, `${index}.sock`), words);
    await assert.rejects(openQmp(path), (error: Error) => {
      assert.equal(error.name, "MonitorFault");
      assert.match(error.message, message);
      return true;
    });
  }
  const silent = await saying(t, join(folder, "silent.sock"), `${GREETING}\r\n`);
  await assert.rejects(openQmp(silent, { answerMs: 50 }), /qmp_capabilities: no answer in 50 ms$/);
});

/** Greets with the first line, and says the others once it is spoken to. */
async function saying(t: TestContext, path: string, words: string): Promise<string> {
  const greetingEnd = words.indexOf("\n") + 1;
  const server = createServer((socket) => {
    socket.on("error", () => socket.destroy());
    socket.once("data", () => socket.write(words.slice(greetingEnd)));
    socket.write(words.slice(0, greetingEnd));
  });
  await new Promise<void>((done) => server.listen(path, done));
  t.after(() => server.close());
  return path;
}
