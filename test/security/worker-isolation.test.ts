/**
 * Goal (S15): an agent on a worker that gives each slot a user of its own reads nothing of another
 * trial, of the host's services or of its secrets, changes nothing of the host, and cannot take it
 * down: bombs of processes, memory and disk are ended, and the host answers meanwhile.
 *
 * Method: a worker-agent as a process of its own, as root with a slot's user, whose "tests" are the
 * attacks; each says in its log what it managed. The bombs go off under limits small enough for any
 * machine. What needs a container or a virtual machine is in docs/security.md.
 */
import assert from "node:assert/strict";
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { isRunning, markedProcesses, openFolder } from "../support/worker-world.ts";
import { attack, SLOT_UID } from "./attack.ts";

const needsRoot = { skip: process.getuid?.() !== 0 && "only root can become another user" };
/** How long the host may take for anything small while a bomb goes off. */
const RESPONSIVE_MS = 3_000;

/** Each is tried by the slot's user; it prints GOT and what it got where it is not denied. */
const DENIED: Readonly<Record<string, string>> = {
  "another trial's checkout": 'cat "$OTHER/workspace/secret.txt"',
  "another trial's folder": 'ls "$OTHER/workspace"',
  "its own worker-agent's private folder": 'ls "$TESTS_DIR/../private" || ls ../private',
  "the orchestrator's home": 'cat "$HOST/home/secrets.json" || ls "$HOST/home"',
  "the proxy's CA key": 'cat "$HOST/home/ca-key.pem"',
  "the socket of a service of the host": 'socket "$HOST/home/service.sock"',
  "the environment of the worker-agent": "tr '\\0' '\\n' < /proc/$PPID/environ | grep -a AUTOCODE",
  "the environment of the orchestrator": "tr '\\0' '\\n' < /proc/$HOST_PID/environ | grep -a .",
  "the memory of the worker-agent": "head -c 1 /proc/$PPID/mem",
  "the open files of the orchestrator": "ls /proc/$HOST_PID/fd",
  "ptrace of the worker-agent":
    'python3 -c "import ctypes; ' +
    "libc = ctypes.CDLL(None, use_errno=True); " +
    'exit(libc.ptrace(16, $PPID, 0, 0) != 0)" && echo attached',
  "a signal to the worker-agent": "kill -9 $PPID && echo sent",
  "a signal to the orchestrator": "kill -0 $HOST_PID && echo sent",
  "a mount": "mkdir -p m && mount -t tmpfs none m && echo mounted",
  "the clock": "date -s '2030-01-01' > /dev/null && echo set",
  "the host's name": "hostname autocode-was-here && echo set",
  "raw sockets":
    'python3 -c "import socket; ' +
    'socket.socket(socket.AF_PACKET, socket.SOCK_RAW)" && echo opened',
  "the kernel's log": "dmesg | head -1",
  "a kernel's setting": "echo 1 > /proc/sys/vm/drop_caches && echo set",
  "the password file": "echo 'root2::0:0::/:/bin/sh' >> /etc/passwd && echo written",
  "a disk": "for disk in $(ls /dev/[vs]d* /dev/nvme*); do head -c 1 $disk | wc -c | grep 1; done",
  "a user's rights by sudo": "sudo -n id -u",
  "a file with another's rights": "cp /bin/sh own-sh && chown 0 own-sh && echo chowned",
};

test("what is not the agent's own is denied to it", needsRoot, async (t) => {
  using folder = openFolder();
  const host = layHost(folder.path);
  const service = createServer((socket) => socket.end("hello"));
  await new Promise<void>((resolve) => service.listen(join(host.home, "service.sock"), resolve));
  t.after(() => service.close());
  // Its user's own, as PostgreSQL's and OpenBao's are.
  chmodSync(join(host.home, "service.sock"), 0o600);
  const lines = Object.entries(DENIED).map(
    ([name, line]) =>
      `got=$( ( ${line} ) 2>/dev/null | head -c 200 ); ` +
      `if [ -n "$got" ]; then echo "GOT ${name}: $got"; else echo "denied ${name}"; fi`,
  );
  const script = [
    'socket() { python3 -c "import socket, sys; s = socket.socket(socket.AF_UNIX); ' +
      's.connect(sys.argv[1]); print(s.recv(9).decode())" "$1"; }',
    `HOST=${host.path} OTHER=${host.other} HOST_PID=${process.pid}`,
    'echo "user $(id -u)"',
    ...lines,
  ].join("\n");
  const { log } = await attack(folder.path, script);
  assert.match(log, new RegExp(`^user ${SLOT_UID}$`, "m"));
  const got = log.split("\n").filter((line) => line.startsWith("GOT "));
  assert.deepEqual(got, []);
  for (const name of Object.keys(DENIED)) {
    await t.test(name, () => assert.ok(log.includes(`denied ${name}`), log));
  }
  assert.equal(readFileSync(join(host.other, "workspace/secret.txt"), "utf8"), "theirs");
});

test("the attacks of the list work where nothing denies them", needsRoot, async () => {
  using folder = openFolder();
  const host = layHost(folder.path);
  // The same by root: the list would tell nothing if it failed for reasons of its own.
  const script =
    `HOST=${host.path} OTHER=${host.other} HOST_PID=${process.pid}\n` +
    'cat "$OTHER/workspace/secret.txt" "$HOST/home/ca-key.pem"; ls /proc/$HOST_PID/fd | head -1';
  const { log } = await attack(folder.path, script, { runAs: null });
  assert.match(log, /theirs.*the key of the proxy.*\d/s);
});

interface Bomb {
  env: Record<string, string>;
  script: string;
  says: RegExp;
}

const BOMBS: Readonly<Record<string, Bomb>> = {
  "of processes": {
    env: { AUTOCODE_LIMIT_PROCESSES: "150" },
    script: `exec python3 -c '
import os, time
while True:
    try: os.fork()
    except OSError: time.sleep(0.2)
'`,
    says: /it runs \d+ processes/,
  },
  "of one process's memory": {
    env: { AUTOCODE_LIMIT_MEMORY_MIB: "600" },
    script: `python3 -c '
data = []
while True: data.append(bytearray(16777216))
' ; echo "ended $?"`,
    says: /ended [1-9]|it takes \d+ MiB of memory/,
  },
  "of many processes' memory": {
    env: { AUTOCODE_LIMIT_MEMORY_MIB: "600" },
    script: `for i in 1 2 3 4; do python3 -c '
import time
data = bytearray(300 * 1048576)
for i in range(0, len(data), 4096): data[i] = 1
time.sleep(60)
' & done; wait`,
    says: /it takes \d+ MiB of memory; its limit is 600 MiB/,
  },
  "of disk, in one file": {
    env: { AUTOCODE_LIMIT_DISK_MIB: "64" },
    script: 'head -c 200000000 /dev/zero > big; echo "ended $? $(stat -c %s big)"',
    says: /ended [1-9]\d* 67108864/,
  },
  "of disk, in many files": {
    env: { AUTOCODE_LIMIT_DISK_MIB: "64" },
    script:
      'i=0; while [ $i -lt 20 ]; do head -c 10485760 /dev/zero > "f$i"; i=$((i+1)); done; ' +
      "sync .; sleep 60",
    says: /it takes \d+ MiB of disk; its limit is 64 MiB/,
  },
};

for (const [name, { env, script, says }] of Object.entries(BOMBS)) {
  test(`a bomb ${name} is ended, and the host answers meanwhile`, needsRoot, async (t) => {
    using folder = openFolder();
    const watching = watchHost(folder.path);
    const { log, verdict, detail, allocationId, lastedMs } = await attack(folder.path, script, {
      env,
    });
    const worstMs = await watching.stop();
    t.diagnostic(
      `${verdict}: ${detail}; ${Math.round(lastedMs)} ms, the host's worst ${worstMs} ms`,
    );
    assert.match(`${detail}\n${log}`, says);
    assert.ok(worstMs < RESPONSIVE_MS, `the host took ${worstMs} ms for an answer`);
    assert.deepEqual(markedProcesses(allocationId), []);
    assert.deepEqual(processesOfSlot(), [], "nothing of the bomb is left");
  });
}

test("limits that make no sense are refused by name", async () => {
  using folder = openFolder();
  const env = { AUTOCODE_LIMIT_MEMORY_MIB: "8GB", AUTOCODE_LIMIT_PROCESSES: "1" };
  const { code, reports, errors } = await attack(folder.path, "true", { env });
  assert.deepEqual([code, reports], [1, 0]);
  assert.match(errors, /AUTOCODE_LIMIT_PROCESSES must be a whole number from 64 to/);
  assert.match(errors, /AUTOCODE_LIMIT_MEMORY_MIB must be a whole number from 512 to/);
});

/** What an orchestrator's machine holds, with the rights that our own code gives it. */
function layHost(path: string) {
  const home = join(path, "host/home");
  const other = join(path, "host/other");
  mkdirSync(home, { recursive: true });
  mkdirSync(join(other, "workspace"), { recursive: true });
  chmodSync(home, 0o711);
  chmodSync(other, 0o711);
  chmodSync(join(other, "workspace"), 0o700);
  writeFileSync(join(other, "workspace/secret.txt"), "theirs");
  for (const [name, text] of [
    ["secrets.json", "a secret"],
    ["ca-key.pem", "the key of the proxy"],
  ] as const) {
    writeFileSync(join(home, name), text, { mode: 0o600 });
  }
  return { path: join(path, "host"), home, other };
}

/** Does something small again and again; tells the longest that it took. */
function watchHost(folder: string) {
  let isOver = false;
  let worstMs = 0;
  const running = (async () => {
    while (!isOver) {
      const startedMs = performance.now();
      writeFileSync(join(folder, "answer"), "here");
      statSync(join(folder, "answer"));
      await pause(20);
      worstMs = Math.max(worstMs, performance.now() - startedMs - 20);
    }
  })();
  return {
    stop: async () => {
      isOver = true;
      await running;
      return Math.round(worstMs);
    },
  };
}

function processesOfSlot(): number[] {
  return readdirSync("/proc").flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    const found = statSync(`/proc/${name}`, { throwIfNoEntry: false });
    return found?.uid === SLOT_UID && isRunning(Number(name)) ? [Number(name)] : [];
  });
}
