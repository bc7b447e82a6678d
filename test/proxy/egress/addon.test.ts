/**
 * Goal: the memory of one session at mitmproxy: all of it comes back, also of what arrives after an
 * exchange's end, and the record leaves half of it to messages that are not whole.
 *
 * Method: the addon's own classes, in mitmproxy's Python.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ROOT, runToEnd } from "../../support/installation.ts";

const PYTHON = join(ROOT, ".engines/mitmproxy/python/bin/python3");
const isRequired = process.env["AUTOCODE_REQUIRE_ENGINES"] === "all";
const skip =
  existsSync(PYTHON) || isRequired
    ? false
    : "mitmproxy is not installed: npm run engines mitmproxy";

async function run(...lines: string[]): Promise<unknown> {
  const head = [
    "import json",
    "from autocode_addon.exchange import Exchange",
    "from autocode_addon.memory import Room",
    "room = Room(1000)",
  ];
  const open = "made = Exchange(1, None, None, 600, room); made.message_room = 600";
  const env = { PYTHONPATH: join(ROOT, "proxy/egress"), PYTHONDONTWRITEBYTECODE: "1" };
  const ran = await runToEnd(PYTHON, ["-c", [...head, open, ...lines].join("\n")], { env });
  assert.equal(ran.exit, 0, ran.err);
  return JSON.parse(ran.out);
}

test("what comes after an exchange's end takes none of its session's memory", {
  skip,
}, async () => {
  const told = await run(
    "made.request.add(b'x' * 100); made.response.add(b'x' * 100)",
    "made.hold_message(b'x' * 100); made.hold_part(True, 100, False)",
    "made.leave()",
    "made.request.add(b'y' * 50); made.response.add(b'y' * 50)",
    "message = len(made.hold_message(b'y' * 50)); part = made.hold_part(True, 50, False)",
    "made.leave()",
    "kept = len(made.request.bytes()), made.request.count",
    "print(json.dumps([*kept, message, part, room.hold_record(9999), room.hold(9999)]))",
  );
  assert.deepEqual(told, [100, 150, 0, false, 500, 500]);
});

test("the record has half of a session's memory; a message that is not whole has the rest", {
  skip,
}, async () => {
  const told = await run(
    "made.request.add(b'x' * 600)",
    "message = len(made.hold_message(b'x' * 100))",
    "parts = [made.hold_part(False, size, False) for size in (400, 100, 1)]",
    "print(json.dumps([len(made.request.bytes()), message, parts]))",
  );
  assert.deepEqual(told, [500, 0, [true, true, false]]);
});
