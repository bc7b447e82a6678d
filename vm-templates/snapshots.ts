/**
 * Snapshots of a VM in the folder that `autocode vm build` made: its disk and its memory at one
 * moment, within its own qcow2 file, made by qemu (docs/adr/0019).
 *
 * Invariant: a snapshot is of every drive that the VM writes to, or it is refused: one that has
 * forgotten a disk would restore a VM that never was.
 */
import { statfs } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { Type } from "typebox";
import { MonitorFault, Nothing, openQmp, type Qmp, type QmpEvent } from "./qmp.ts";
import { lastWords, runTool } from "./tools.ts";

export interface Snapshot {
  name: string;
  takenAt: string;
  /** What of the memory is in it. */
  memoryBytes: number;
}

export interface Vm extends AsyncDisposable {
  /** Whether qemu answers; else all is done to the disk alone, by qemu-img. */
  isRunning: boolean;
  /** Oldest first. @throws MonitorFault */
  list(): Promise<Snapshot[]>;
  /**
   * Takes one, while the VM stands still; for how long it did (0: it did not run anyway).
   *
   * @throws MonitorFault: the name is taken, the disk is full, a drive cannot, the VM does not run.
   */
  take(name: string): Promise<{ pausedMs: number }>;
  /**
   * Puts a running VM back to the moment; what it did since is gone.
   *
   * @throws MonitorFault: there is none of this name, the VM does not run.
   */
  load(name: string): Promise<void>;
  /** @throws MonitorFault when there is none of this name. */
  remove(name: string): Promise<void>;
}

export const SOCKET = "qmp.sock";
const DISK = "disk.qcow2";
const NAME = /^[A-Za-z][A-Za-z0-9._-]{0,199}$/;
const JOB_PREFIX = "autocode-snapshot-";
/** Beside the memory: the state of devices, and the tables of the file itself. */
const MARGIN_BYTES = 64 * 2 ** 20;
const MIB = 2 ** 20;

const SnapshotFacts = Type.Object({
  name: Type.String(),
  "vm-state-size": Type.Number(),
  "date-sec": Type.Number(),
});
type SnapshotFacts = Type.Static<typeof SnapshotFacts>;
const Blocks = Type.Array(
  Type.Object({
    device: Type.String(),
    qdev: Type.Optional(Type.String()),
    inserted: Type.Optional(
      Type.Object({
        ro: Type.Boolean(),
        drv: Type.String(),
        file: Type.String(),
        "node-name": Type.String(),
        image: Type.Object({ snapshots: Type.Optional(Type.Array(SnapshotFacts)) }),
      }),
    ),
  }),
);
const Status = Type.Object({ running: Type.Boolean(), status: Type.String() });
const Memory = Type.Object({
  "base-memory": Type.Number(),
  "plugged-memory": Type.Optional(Type.Number()),
});
const Jobs = Type.Array(
  Type.Object({
    id: Type.String(),
    status: Type.String(),
    error: Type.Optional(Type.String()),
  }),
);
const ImageInfo = Type.Object({ snapshots: Type.Optional(Type.Array(SnapshotFacts)) });

/**
 * The VM of a folder: by its monitor when it runs, else by its disk.
 *
 * @throws MonitorFault when it runs and cannot be reached.
 */
export async function openVm(folder: string): Promise<Vm> {
  try {
    return createRunningVm(await openQmp(join(folder, SOCKET)), folder);
  } catch (error) {
    const { code } = ((error as Error).cause ?? {}) as NodeJS.ErrnoException;
    if (code !== "ENOENT" && code !== "ECONNREFUSED") throw error;
    return createStoppedVm(folder);
  }
}

function createRunningVm(qmp: Qmp, folder: string): Vm {
  let jobCount = 0;
  return {
    isRunning: true,
    list: async () => sorted((await drives()).flatMap(({ snapshots }) => snapshots)),
    take,
    load,
    remove,
    [Symbol.asyncDispose]: () => qmp[Symbol.asyncDispose](),
  };

  async function take(name: string): Promise<{ pausedMs: number }> {
    checkName(name);
    const nodes = await drives();
    if (nodes.some(({ snapshots }) => snapshots.some((each) => each.name === name))) {
      throw new MonitorFault(
        `there is a snapshot ${name} already; remove it, or take another name`,
      );
    }
    await checkRoom(nodes.map(({ file }) => file));
    const { running: ran } = await status();
    try {
      await job("snapshot-save", name, nodes);
    } finally {
      if (ran) await resume();
    }
    return { pausedMs: ran ? await pause() : 0 };
  }

  /** One that cannot be read to its end leaves the VM standing: its memory is of no moment. */
  async function load(name: string): Promise<void> {
    const nodes = await having(name);
    const { running: ran } = await status();
    await job("snapshot-load", name, nodes);
    if (!ran) return;
    await resume();
    await pause();
  }

  async function remove(name: string): Promise<void> {
    await job("snapshot-delete", name, await having(name));
  }

  /** It goes on by itself; a qemu that leaves that to us is told. */
  async function resume(): Promise<void> {
    if (!(await status()).running) await qmp.execute("cont", {}, Nothing);
  }

  /** How long it stood still, by qemu's own clock. */
  async function pause(): Promise<number> {
    const stopped = await qmp.event(({ event }) => event === "STOP");
    const resumed = await qmp.event(({ event }) => event === "RESUME");
    return Math.round(timeOf(resumed) - timeOf(stopped));
  }

  function status() {
    return qmp.execute("query-status", {}, Status);
  }

  /** What the VM writes to. @throws MonitorFault for a drive whose format has no snapshots. */
  async function drives() {
    const blocks = await qmp.execute("query-block", {}, Blocks);
    const found = [];
    for (const { device, qdev = "", inserted } of blocks) {
      // The firmware's settings are part of the memory that is saved.
      if (inserted === undefined || inserted.ro || /pflash/.test(device + qdev)) continue;
      const { drv, file, image, "node-name": node } = inserted;
      if (drv !== "qcow2") {
        const way = "make it qcow2, or read-only";
        throw new MonitorFault(`${file}: is ${drv}, which holds no snapshots; ${way}`);
      }
      found.push({ node, file: resolve(folder, file), snapshots: image.snapshots ?? [] });
    }
    if (found.length > 0) return found;
    throw new MonitorFault(
      `${folder}: the VM has no disk that it writes to; there is nothing to keep`,
    );
  }

  async function having(name: string) {
    const nodes = await drives();
    for (const { file, snapshots } of nodes) {
      if (!snapshots.some((each) => each.name === name)) throw noSuch(file, name, snapshots);
    }
    return nodes;
  }

  /** Before: a disk that fills while memory is written costs the pause, and the VM its writes. */
  async function checkRoom(files: readonly string[]): Promise<void> {
    const memory = await qmp.execute("query-memory-size-summary", {}, Memory);
    const needed = memory["base-memory"] + (memory["plugged-memory"] ?? 0) + MARGIN_BYTES;
    for (const file of files) {
      const { bavail, bsize } = await statfs(dirname(file));
      if (bavail * bsize >= needed) continue;
      const [free, wanted] = [bavail * bsize, needed].map((bytes) => Math.floor(bytes / MIB));
      const way = "remove older ones (vm snapshot rm), or make room";
      throw new MonitorFault(
        `${dirname(file)}: has ${free} MiB free, and a snapshot may take ${wanted} MiB; ${way}`,
      );
    }
  }

  /** One of qemu's jobs from its beginning to its end. @throws MonitorFault in the job's words. */
  async function job(
    command: string,
    tag: string,
    nodes: readonly { node: string }[],
  ): Promise<void> {
    await clearJobs();
    const id = `${JOB_PREFIX}${process.pid}-${++jobCount}`;
    const devices = nodes.map(({ node }) => node);
    const vmstate = command === "snapshot-delete" ? {} : { vmstate: devices[0] };
    await qmp.execute(command, { "job-id": id, tag, devices, ...vmstate }, Nothing);
    await qmp.event(
      ({ event, data }) =>
        event === "JOB_STATUS_CHANGE" && data?.["id"] === id && data["status"] === "concluded",
    );
    const jobs = await qmp.execute("query-jobs", {}, Jobs);
    await qmp.execute("job-dismiss", { id }, Nothing);
    const error = jobs.find((each) => each.id === id)?.error;
    if (error !== undefined) throw new MonitorFault(`${command}: ${error}`);
  }

  /** Jobs of a command that was killed stay until somebody says that they were seen. */
  async function clearJobs(): Promise<void> {
    for (const { id, status: state } of await qmp.execute("query-jobs", {}, Jobs)) {
      if (!id.startsWith(JOB_PREFIX)) continue;
      if (state !== "concluded") {
        throw new MonitorFault(`${folder}: another command's snapshot is under way (${state})`);
      }
      await qmp.execute("job-dismiss", { id }, Nothing);
    }
  }
}

function createStoppedVm(folder: string): Vm {
  const disk = join(folder, DISK);
  return {
    isRunning: false,
    list,
    take: () => Promise.reject(notRunning()),
    load: () => Promise.reject(notRunning()),
    remove,
    [Symbol.asyncDispose]: async () => {},
  };

  async function list(): Promise<Snapshot[]> {
    const said = await image(["info", "--output=json", disk]);
    const info = JSON.parse(said) as Type.Static<typeof ImageInfo>;
    return sorted(info.snapshots ?? []);
  }

  async function remove(name: string): Promise<void> {
    const there = await list();
    if (!there.some((each) => each.name === name)) throw noSuch(disk, name, there);
    await image(["snapshot", "-d", name, disk]);
  }

  async function image(args: readonly string[]): Promise<string> {
    const ended = await runTool("qemu-img", args);
    if (ended === null) throw new MonitorFault("qemu-img is not installed; install qemu-utils");
    if (ended.exit !== 0) throw new MonitorFault(lastWords(ended.output));
    return ended.output;
  }

  function notRunning(): MonitorFault {
    const way = "start it: sh run.sh (under libvirt, snapshots are virsh's)";
    return new MonitorFault(`${folder}: the VM does not run: no qemu at ${SOCKET}; ${way}`);
  }
}

/** @throws MonitorFault: qemu reads digits as a number of its own, and a file has little room. */
function checkName(name: string): void {
  if (NAME.test(name)) return;
  const rule = "begins with a letter and has letters, digits, dot, _ and -, 200 at most";
  throw new MonitorFault(`"${name}" is no name of a snapshot: one ${rule}`);
}

function noSuch(file: string, name: string, there: readonly { name: string }[]): MonitorFault {
  const known = there.length === 0 ? "none" : there.map((each) => each.name).join(", ");
  return new MonitorFault(`${file}: has no snapshot ${name}; there is ${known}`);
}

function sorted(found: readonly SnapshotFacts[]): Snapshot[] {
  // Of several drives, the one that holds the memory says how much.
  const byName = new Map<string, SnapshotFacts>();
  for (const each of found) {
    const known = byName.get(each.name);
    if (known === undefined || known["vm-state-size"] < each["vm-state-size"]) {
      byName.set(each.name, each);
    }
  }
  return [...byName.values()]
    .sort((a, b) => a["date-sec"] - b["date-sec"])
    .map((each) => ({
      name: each.name,
      takenAt: new Date(each["date-sec"] * 1000).toISOString(),
      memoryBytes: each["vm-state-size"],
    }));
}

function timeOf({ timestamp }: QmpEvent): number {
  return timestamp.seconds * 1000 + timestamp.microseconds / 1000;
}
