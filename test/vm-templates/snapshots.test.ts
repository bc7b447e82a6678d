/**
 * Goal: a VM's disk and memory are kept at one moment and come back as they were; what cannot be
 * kept whole is refused before anything is done, and qemu's own words say why it refuses.
 *
 * Method: a real qemu, emulated, with a blank disk that qemu-io's command of its monitor writes to.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import test from "node:test";
import { Type } from "typebox";
import { openQmp } from "../../vm-templates/qmp.ts";
import { openVm } from "../../vm-templates/snapshots.ts";
import { eventually } from "../support/eventually.ts";
import { type Blank, openBlank, whyNoQemu } from "../support/qemu.ts";

const skip = await whyNoQemu();
const BOUND = "checkpoint_01kah27zs8e4rsk0ncyqjpys5f.trial_01kah27zs8e4rsk0ncyqjpys5f";

async function inMonitor(folder: string, command: string): Promise<string> {
  await using qmp = await openQmp(join(folder, "qmp.sock"));
  return await qmp.execute("human-monitor-command", { "command-line": command }, Type.String());
}

/** Whether the disk begins with `byte`: qemu reads it, and says so where it prints. */
async function beginsWith(blank: Blank, byte: string): Promise<boolean> {
  const before = blank.said().length;
  await inMonitor(blank.folder, `qemu-io virtio0 "read -P ${byte} 0 512"`);
  const read = await eventually(
    () => blank.said().slice(before),
    (said) => said.includes("read 512/512"),
  );
  return !read.includes("Pattern verification failed");
}

test("disk and memory come back as they were, running and not", { skip }, async () => {
  await using blank = await openBlank();
  const { folder } = blank;
  await blank.start();
  await inMonitor(folder, 'qemu-io virtio0 "write -P 0x11 0 512"');
  {
    await using vm = await openVm(folder);
    assert.equal(vm.isRunning, true);
    assert.deepEqual(await vm.list(), []);
    const { pausedMs } = await vm.take(BOUND);
    assert.ok(pausedMs >= 0 && pausedMs < 60_000, String(pausedMs));
    const [kept, ...others] = await vm.list();
    assert.deepEqual([kept?.name, others], [BOUND, []]);
    assert.ok((kept?.memoryBytes ?? 0) > 100_000, String(kept?.memoryBytes));
    assert.ok(Math.abs(Date.parse(kept?.takenAt ?? "") - Date.now()) < 60_000, kept?.takenAt);
    await assert.rejects(vm.take(BOUND), /there is a snapshot checkpoint_\w+\.trial_\w+ already/);
  }
  assert.match(await inMonitor(folder, "info status"), /VM status: running/);
  await inMonitor(folder, 'qemu-io virtio0 "write -P 0x22 0 512"');
  assert.equal(await beginsWith(blank, "0x11"), false);
  {
    await using vm = await openVm(folder);
    await vm.load(BOUND);
  }
  assert.equal(await beginsWith(blank, "0x11"), true);
  assert.match(await inMonitor(folder, "info status"), /VM status: running/);

  await inMonitor(folder, 'qemu-io virtio0 "write -P 0x33 0 512"');
  await blank.stop();
  await blank.start("-loadvm", BOUND);
  assert.equal(await beginsWith(blank, "0x11"), true);
  {
    await using vm = await openVm(folder);
    await vm.take("second");
    await vm.remove(BOUND);
    assert.deepEqual(
      (await vm.list()).map(({ name }) => name),
      ["second"],
    );
  }
  await blank.stop();
  await using vm = await openVm(folder);
  assert.equal(vm.isRunning, false);
  assert.deepEqual(
    (await vm.list()).map(({ name }) => name),
    ["second"],
  );
  await vm.remove("second");
  assert.deepEqual(await vm.list(), []);
});

test("a VM that stands still is kept as that", { skip }, async () => {
  await using blank = await openBlank();
  await blank.start("-S");
  await using vm = await openVm(blank.folder);
  assert.deepEqual(await vm.take("still"), { pausedMs: 0 });
  await vm.load("still");
  await vm[Symbol.asyncDispose]();
  assert.match(await inMonitor(blank.folder, "info status"), /paused/);
});

test("what cannot be kept is refused, and nothing was done", { skip }, async () => {
  await using blank = await openBlank();
  const { folder } = blank;
  {
    await using vm = await openVm(folder);
    await assert.rejects(vm.take("a"), /the VM does not run: no qemu at qmp\.sock; start it: sh/);
    await assert.rejects(vm.load("a"), /the VM does not run/);
    await assert.rejects(vm.remove("a"), /disk\.qcow2: has no snapshot a; there is none$/);
  }
  execFileSync("qemu-img", ["create", "-q", "-f", "raw", join(folder, "more.raw"), "1M"]);
  await blank.start("-S", "-drive", "file=more.raw,if=virtio,format=raw");
  {
    await using vm = await openVm(folder);
    await assert.rejects(
      vm.take("a"),
      /more\.raw: is raw, which holds no snapshots; make it qcow2/,
    );
  }
  await blank.stop();
  // As a seed disk is: what nobody writes to needs no snapshot.
  await blank.start("-S", "-drive", "file=more.raw,if=virtio,format=raw,readonly=on");
  {
    await using vm = await openVm(folder);
    for (const name of ["1", "-a", "a b", "", `a${"b".repeat(200)}`]) {
      await assert.rejects(vm.take(name), /is no name of a snapshot: one begins with a letter/);
    }
    await assert.rejects(vm.load("a"), /disk\.qcow2: has no snapshot a; there is none$/);
    await vm.take("a");
    await assert.rejects(vm.remove("b"), /has no snapshot b; there is a$/);
  }
  await blank.stop();
  // More memory than any disk has room for, of which the machine uses nothing.
  await blank.start("-S", ...hugeMemory());
  await using vm = await openVm(folder);
  await assert.rejects(vm.take("b"), /has \d+ MiB free, and a snapshot may take \d+ MiB; remove/);
  assert.deepEqual(
    (await vm.list()).map(({ name }) => name),
    ["a"],
  );
});

test("a disk that a qemu without our monitor has is not touched", { skip }, async () => {
  await using blank = await openBlank();
  await blank.start("-S");
  await rm(join(blank.folder, "qmp.sock"));
  await using vm = await openVm(blank.folder);
  assert.equal(vm.isRunning, false);
  await assert.rejects(vm.list(), /^MonitorFault: qemu-img: .*lock/);
  await assert.rejects(vm.remove("a"), /^MonitorFault: qemu-img: .*lock/);
});

test("qemu's own refusal is told in its words", { skip }, async () => {
  await using blank = await openBlank();
  // A shared memory of the host is nothing that qemu can keep.
  const device = ["-object", "memory-backend-memfd,id=shared,size=1M,share=on"];
  await blank.start("-S", ...device, "-device", "ivshmem-plain,memdev=shared,master=off");
  await using vm = await openVm(blank.folder);
  await assert.rejects(vm.take("a"), (error: Error) => {
    assert.match(error.message, /^snapshot-save: .*disabled.*peer mode/);
    return true;
  });
  assert.deepEqual(await vm.list(), []);
});

function hugeMemory(): string[] {
  const backend = "memory-backend-ram,id=huge,size=4T,reserve=off,prealloc=off";
  const machine = ["-cpu", "max,phys-bits=48", "-m", "64,maxmem=8T,slots=1"];
  return [...machine, "-object", backend, "-device", "pc-dimm,memdev=huge"];
}
