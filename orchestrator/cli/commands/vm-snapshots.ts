/** Snapshots of a VM, on the machine that runs it: taken, listed, restored, and kept in step. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { MonitorFault } from "../../../vm-templates/qmp.ts";
import { openVm, type Snapshot, type Vm } from "../../../vm-templates/snapshots.ts";
import type { CheckpointTree } from "../../contract/checkpoints.ts";
import type { ProblemBody } from "../../contract/system.ts";
import type { WorkerDetail } from "../../contract/workers.ts";
import type { Client } from "../client.ts";
import { type Command, type Invocation, JSON_OPTION } from "../command.ts";
import { EXIT, Failure, usage } from "../failure.ts";
import { boundOf, nameFor, namesOf, newestOf, planSnapshots } from "../snapshot-plan.ts";

const FOLDER = { name: "folder", isRequired: true };
const NAME = { name: "name", isRequired: true };
const WHERE = "On the machine that runs the VM, as who runs it: <folder> is what `vm build` made.";
const MIB = 2 ** 20;
const POLL_MS = 10_000;
const KEPT = 3;

export const vmSnapshot: Command = {
  name: "vm snapshot",
  summary: "Keep a running VM as it is: its disk and its memory",
  positionals: [FOLDER],
  options: {
    trial: { type: "string", value: "<trial>", help: "Of this trial's newest checkpoint" },
    name: { type: "string", value: "<name>", help: "Of no checkpoint: a name of your own" },
    json: JSON_OPTION,
  },
  notes: [WHERE, "The VM stands still meanwhile; its lease (30 s) must outlast that."],
  async run({ positionals, options, print, config, connect }) {
    const [given, trial] = [options.text("name"), options.text("trial")];
    if ((given === undefined) === (trial === undefined)) {
      throw usage("name one of --trial <trial> and --name <name>");
    }
    const name = given ?? (await newestName(await connect(), trial ?? ""));
    return withVm({ config, positionals }, async (vm) => {
      const { pausedMs } = await vm.take(name);
      if (options.flag("json")) print.json({ name, paused_ms: pausedMs });
      else {
        print.line(name);
        print.note(`the VM stood still for ${pausedMs} ms`);
      }
    });
  },
};

export const vmSnapshotLs: Command = {
  name: "vm snapshot ls",
  summary: "List a VM's snapshots, and the checkpoints that they belong to",
  positionals: [FOLDER],
  options: { json: JSON_OPTION },
  notes: [WHERE],
  run: ({ positionals, options, print, config }) =>
    withVm({ config, positionals }, async (vm) => {
      const found = await vm.list();
      if (options.flag("json")) {
        print.json(found.map(toJson));
        return;
      }
      print.table<Snapshot>(
        [
          { title: "snapshot", value: ({ name }) => boundOf(name)?.checkpointId ?? name },
          { title: "trial", value: ({ name }) => boundOf(name)?.trialId ?? "-", shrinks: true },
          { title: "taken", value: ({ takenAt }) => takenAt },
          {
            title: "MiB",
            value: ({ memoryBytes }) => String(Math.ceil(memoryBytes / MIB)),
            align: "right",
          },
        ],
        found,
      );
    }),
};

export const vmSnapshotRm: Command = {
  name: "vm snapshot rm",
  summary: "Remove a snapshot of a VM, be it running or not",
  positionals: [FOLDER, NAME],
  notes: [WHERE],
  run: ({ positionals, print, config }) =>
    withVm({ config, positionals }, async (vm) => {
      const name = await meant(vm, positionals);
      await vm.remove(name);
      print.line(`${name} is removed`);
    }),
};

export const vmRestore: Command = {
  name: "vm restore",
  summary: "Put a VM back to a snapshot; what it did since is gone",
  positionals: [FOLDER, NAME],
  options: {
    accel: { type: "string", value: "<name>", help: "To boot with: kvm or tcg (as run.sh)" },
  },
  notes: [
    WHERE,
    "A running VM goes on from there. One that does not run is started from there, as run.sh does:",
    "this command ends when the VM does. What a trial in it says is refused if it was tried again.",
  ],
  async run({ positionals, options, print, config }) {
    const accel = options.text("accel");
    if (accel !== undefined && !/^[a-z]{2,10}$/.test(accel)) throw usage("--accel: kvm or tcg");
    let name = "";
    let isRunning = true;
    await withVm({ config, positionals }, async (vm) => {
      name = await meant(vm, positionals);
      isRunning = vm.isRunning;
      if (isRunning) await vm.load(name);
    });
    if (isRunning) print.line(`the VM goes on from ${name}`);
    else await boot(resolve(config.cwd, positionals[0] ?? ""), name, accel);
    return EXIT.done;
  },
};

export const vmFollow: Command = {
  name: "vm follow",
  summary: "Take a snapshot of a VM with each checkpoint of its trials, until Ctrl-C",
  positionals: [FOLDER],
  options: {
    worker: { type: "string", value: "<worker>", help: "Its name in `worker ls`" },
    keep: { type: "string", value: "<count>", help: `How many to keep at most (${KEPT})` },
    once: { type: "boolean", help: "Look once, and end" },
  },
  notes: [
    WHERE,
    "A snapshot is removed when its checkpoint is, and when there are newer ones enough.",
  ],
  async run({ positionals, options, print, config, connect }) {
    const worker = options.required("worker");
    const kept = options.integer("keep", { min: 1, max: 100 }) ?? KEPT;
    const client = await connect();
    const look = () =>
      withVm({ config, positionals }, (vm) =>
        keepInStep({ client, vm, worker, kept, say: print.line }),
      );
    if (options.flag("once")) return look();
    const stopping = new AbortController();
    process.once("SIGINT", () => stopping.abort()).once("SIGTERM", () => stopping.abort());
    for (let told = ""; !stopping.signal.aborted; ) {
      try {
        await look();
        told = "";
      } catch (error) {
        // A VM that starts anew, a server that does: it goes on when they are there.
        if (!(error instanceof Failure) || error.exit === EXIT.usage) throw error;
        if (error.message !== told) print.note(error.message);
        told = error.message;
      }
      await pause(POLL_MS, null, { signal: stopping.signal }).catch(() => {
        // Ctrl-C: the condition sees it.
      });
    }
    return EXIT.done;
  },
};

/** One look: what is new is taken, what is of nothing any more is removed. */
async function keepInStep(scope: {
  client: Client;
  vm: Vm;
  worker: string;
  kept: number;
  say(line: string): void;
}): Promise<void> {
  const { client, vm, worker, kept, say } = scope;
  const path = `workers/${encodeURIComponent(worker)}`;
  const { allocations } = await client.get<WorkerDetail>(path);
  const running = allocations.flatMap(({ trial_id: id, ended_at: endedAt }) =>
    id === null || endedAt !== null ? [] : [id],
  );
  const names = (await vm.list()).map(({ name }) => name);
  const owners = names.flatMap((name) => boundOf(name)?.trialId ?? []);
  const trees = new Map<string, CheckpointTree | null>();
  for (const id of new Set([...running, ...owners])) trees.set(id, await treeOf(client, id));
  const { take, remove } = planSnapshots({ names, running, trees, kept });
  // First, as what is removed makes room.
  for (const name of remove) {
    await vm.remove(name);
    say(`removed ${name}`);
  }
  if (take === null) return;
  const { pausedMs } = await vm.take(nameFor(take));
  say(`took ${nameFor(take)}; the VM stood still for ${pausedMs} ms`);
}

/** Null for a trial that this server does not know. */
async function treeOf(client: Client, trialId: string): Promise<CheckpointTree | null> {
  try {
    return await client.get<CheckpointTree>(`trials/${encodeURIComponent(trialId)}/checkpoints`);
  } catch (error) {
    const { type } = ((error as Failure).cause ?? {}) as Partial<ProblemBody>;
    if (type === "/problems/not_found") return null;
    throw error;
  }
}

async function newestName(client: Client, trialId: string): Promise<string> {
  const tree = await client.get<CheckpointTree>(
    `trials/${encodeURIComponent(trialId)}/checkpoints`,
  );
  const newest = newestOf(tree, trialId);
  if (newest !== null) return nameFor(newest);
  throw new Failure(EXIT.failed, `${trialId} has no checkpoint yet; name the snapshot: --name`);
}

/** The one snapshot that a person's argument means. @throws Failure */
async function meant(vm: Vm, [, given = ""]: readonly string[]): Promise<string> {
  const names = (await vm.list()).map(({ name }) => name);
  const [name, ...others] = namesOf(given, names);
  if (name !== undefined && others.length === 0) return name;
  const known = names.length === 0 ? "it has none" : `it has ${names.join(", ")}`;
  throw new Failure(EXIT.failed, `the VM has no snapshot ${given}; ${known}`);
}

async function withVm(
  { config, positionals: [folder = ""] }: Pick<Invocation, "config" | "positionals">,
  work: (vm: Vm) => Promise<void>,
): Promise<typeof EXIT.done> {
  try {
    await using vm = await openVm(resolve(config.cwd, folder));
    await work(vm);
    return EXIT.done;
  } catch (error) {
    if (error instanceof MonitorFault) throw new Failure(EXIT.failed, error.message, error);
    throw error;
  }
}

/** In the foreground, on this terminal: its console is the VM's. */
async function boot(folder: string, name: string, accel: string | undefined): Promise<void> {
  const machine = accel === undefined ? [] : ["-machine", `accel=${accel}`];
  const child = spawn("sh", [join(folder, "run.sh"), "-loadvm", name, ...machine], {
    stdio: "inherit",
  });
  const [exit] = await once(child, "close");
  if (exit !== 0) throw new Failure(EXIT.failed, `the VM ended with ${exit ?? "a signal"}`);
}

function toJson({ name, takenAt, memoryBytes }: Snapshot) {
  const bound = boundOf(name);
  return {
    name,
    checkpoint_id: bound?.checkpointId ?? null,
    trial_id: bound?.trialId ?? null,
    taken_at: takenAt,
    memory_bytes: memoryBytes,
  };
}
