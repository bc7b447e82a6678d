/**
 * Which worker an allocation goes to: pure, and the same for the same input.
 *
 * A worker fits when it is ready, has a free slot and has what is asked for and not yet given away.
 * Among those that fit, the scarcest is spared: fewest GPUs first, then the smaller memory (by
 * powers of two), then the least loaded. Waiting allocations go by priority; within one, owners
 * take turns.
 */
import type { Capabilities, HostStatus, Requirements } from "../contract/workers.ts";
import { type Candidate, createCandidates } from "./candidates.ts";

export interface PlaceableWorker {
  id: string;
  pool: string;
  status: HostStatus;
  slots: number;
  capabilities: Capabilities;
  /** What was asked for by each allocation that it has. */
  held: readonly Requirements[];
}

export interface Waiting<Id extends string = string> {
  id: Id;
  requirements: Requirements;
  /** Higher ones first. */
  priority: number;
  /** Who takes turns with the others of its priority: a project. */
  owner: string;
}

export interface Choice<Id extends string = string> {
  id: Id;
  workerId: string;
}

/** What a worker has left. */
interface Room extends Candidate {
  readonly worker: PlaceableWorker;
  used: number;
  cpus: number;
  memoryBytes: number;
  diskBytes: number;
  /** The memory of each GPU that is free, smallest first. */
  gpus: number[];
}

/**
 * Places as many of `waiting` (oldest first) as fit: whatever is left over fits nowhere.
 * O((workers + placed · log workers) · distinct requirements) at worst.
 */
export function choose<Id extends string>(
  waiting: readonly Waiting<Id>[],
  workers: readonly PlaceableWorker[],
): Choice<Id>[] {
  return place(waiting, roomsOf(workers)).choices;
}

/** How many more allocations that ask for `wanted` would run beside all of `waiting`. */
export function roomFor(
  wanted: Requirements,
  waiting: readonly Waiting[],
  workers: readonly PlaceableWorker[],
): number {
  let count = 0;
  for (const room of place(waiting, roomsOf(workers)).rooms) {
    for (; fits(room, wanted); count++) take(room, wanted);
  }
  return count;
}

function place<Id extends string>(
  waiting: readonly Waiting<Id>[],
  rooms: Room[],
): { choices: Choice<Id>[]; rooms: Room[] } {
  const choices: Choice<Id>[] = [];
  const wishes = waiting.map(({ requirements }) => JSON.stringify(requirements));
  const counts = new Map<string, number>();
  for (const wish of wishes) counts.set(wish, (counts.get(wish) ?? 0) + 1);
  // One heap for each wish that is there again: a room only ever gets worse, so that a heap's order
  // is mended when a room comes to its top.
  const heaps = new Map<string, ReturnType<typeof createCandidates<Room>>>();
  for (const { each, position } of inTurn(waiting)) {
    const { id, requirements } = each;
    const wish = wishes[position] ?? "";
    let heap = heaps.get(wish);
    if (heap === undefined && counts.get(wish) !== 1) {
      heap = createCandidates(rooms.filter((room) => fits(room, requirements)));
      heaps.set(wish, heap);
    }
    const room =
      heap === undefined
        ? bestOf(rooms, requirements)
        : heap.best((candidate) => fits(candidate, requirements));
    if (room === null) continue;
    take(room, requirements);
    choices.push({ id, workerId: room.worker.id });
  }
  return { choices, rooms };
}

/** By priority; within one, the first of each owner, then the second of each, and so on. */
function inTurn<Id extends string>(waiting: readonly Waiting<Id>[]) {
  const counts = new Map<string, number>();
  const turns = waiting.map((each, position) => {
    const key = `${each.priority} ${each.owner}`;
    const turn = counts.get(key) ?? 0;
    counts.set(key, turn + 1);
    return { each, turn, position };
  });
  return turns.sort(
    (a, b) => b.each.priority - a.each.priority || a.turn - b.turn || a.position - b.position,
  );
}

/** The one that a heap would give, by looking at all; `rooms` are in their order. */
function bestOf(rooms: readonly Room[], wanted: Requirements): Room | null {
  let best: Room | null = null;
  for (const room of rooms) {
    if (best !== null && room.rank > best.rank) break;
    if ((best === null || room.load < best.load) && fits(room, wanted)) best = room;
  }
  return best;
}

/** In the order in which they are given away: what is scarce is spared. */
function roomsOf(workers: readonly PlaceableWorker[]): Room[] {
  return workers
    .map((worker) => {
      const { gpus, memory_bytes: memory } = worker.capabilities;
      return { worker, memory, rank: gpus.length * 64 + Math.floor(Math.log2(memory)) };
    })
    .sort(
      (a, b) =>
        a.rank - b.rank ||
        a.memory - b.memory ||
        (a.worker.id < b.worker.id ? -1 : a.worker.id > b.worker.id ? 1 : 0),
    )
    .map(({ worker, rank }, order) => roomOf(worker, rank, order));
}

function roomOf(worker: PlaceableWorker, rank: number, order: number): Room {
  const { capabilities, held } = worker;
  const room: Room = {
    ...{ worker, rank, order, load: 0, used: 0 },
    cpus: capabilities.cpus,
    memoryBytes: capabilities.memory_bytes,
    diskBytes: capabilities.disk_bytes ?? Number.POSITIVE_INFINITY,
    gpus: capabilities.gpus.map(({ memory_bytes }) => memory_bytes).sort((a, b) => a - b),
  };
  for (const wanted of held) take(room, wanted);
  return room;
}

function fits(room: Room, wanted: Requirements): boolean {
  const { worker } = room;
  if (worker.status !== "ready" || room.used >= worker.slots) return false;
  if (wanted.pool !== undefined && wanted.pool !== worker.pool) return false;
  const { vm_template: template } = worker.capabilities;
  if (wanted.vm_template !== undefined && wanted.vm_template !== template) return false;
  if ((wanted.cpus ?? 0) > room.cpus || (wanted.memory_bytes ?? 0) > room.memoryBytes) return false;
  if ((wanted.disk_bytes ?? 0) > room.diskBytes) return false;
  const count = gpusOf(wanted);
  if (count === 0) return true;
  const leastBytes = wanted.gpu_memory_bytes ?? 0;
  // Smallest first: the last `count` are the best it has.
  return (room.gpus.at(-count) ?? -1) >= leastBytes;
}

function take(room: Room, wanted: Requirements): void {
  room.used += 1;
  room.load = room.used / room.worker.slots;
  room.cpus -= wanted.cpus ?? 0;
  room.memoryBytes -= wanted.memory_bytes ?? 0;
  room.diskBytes -= wanted.disk_bytes ?? 0;
  const count = gpusOf(wanted);
  if (count === 0) return;
  const first = room.gpus.findIndex((bytes) => bytes >= (wanted.gpu_memory_bytes ?? 0));
  if (first !== -1) room.gpus.splice(first, count);
}

function gpusOf({ gpus, gpu_memory_bytes: bytes }: Requirements): number {
  return gpus ?? (bytes === undefined ? 0 : 1);
}

/**
 * What a worker with these capabilities lacks of what is asked for, in words; null when it has all.
 *
 * @param pool the worker's.
 */
export function lacks(
  worker: { capabilities: Capabilities; pool: string },
  wanted: Requirements,
): string | null {
  return shortfalls(worker, wanted)[0]?.has ?? null;
}

/** Why none of `hosts` could ever run it, were it free: what the nearest lacks. Null: one can. */
export function whyNowhere(
  wanted: Requirements,
  hosts: readonly { name: string; pool: string; capabilities: Capabilities | null }[],
): string | null {
  let nearest: { name: string; lacking: { asked: string; has: string }[] } | null = null;
  for (const { name, pool, capabilities } of hosts) {
    // An engine that does not tell may have anything.
    if (capabilities === null) return null;
    const lacking = shortfalls({ pool, capabilities }, wanted);
    if (lacking.length === 0) return null;
    if (nearest === null || lacking.length < nearest.lacking.length) nearest = { name, lacking };
  }
  if (nearest === null) return null;
  const asked = nearest.lacking.map((each) => each.asked).join(", ");
  const has = nearest.lacking.map((each) => each.has).join(", ");
  return `no known worker has ${asked}; of the nearest, ${nearest.name}: ${has}`;
}

function shortfalls(
  { capabilities, pool }: { capabilities: Capabilities; pool: string },
  wanted: Requirements,
): { asked: string; has: string }[] {
  const found: { asked: string; has: string }[] = [];
  const { cpus, memory_bytes: memory, disk_bytes: disk } = capabilities;
  if (wanted.pool !== undefined && wanted.pool !== pool) {
    found.push({ asked: `the pool ${wanted.pool}`, has: `it is in the pool ${pool}` });
  }
  if ((wanted.cpus ?? 0) > cpus) {
    found.push({ asked: `${wanted.cpus} CPUs`, has: `it has ${cpus} CPUs` });
  }
  if ((wanted.memory_bytes ?? 0) > memory) {
    const asked = `${size(wanted.memory_bytes)} of memory`;
    found.push({ asked, has: `it has ${size(memory)} of memory` });
  }
  if ((wanted.disk_bytes ?? 0) > (disk ?? Number.POSITIVE_INFINITY)) {
    found.push({
      asked: `${wanted.disk_bytes} bytes of disk`,
      has: `it has ${disk} bytes of disk`,
    });
  }
  const leastBytes = wanted.gpu_memory_bytes ?? 0;
  const fitting = capabilities.gpus.filter(({ memory_bytes }) => memory_bytes >= leastBytes).length;
  if (gpusOf(wanted) > fitting) {
    const each = leastBytes === 0 ? "" : ` of ${size(leastBytes)}`;
    found.push({ asked: `${gpusOf(wanted)} GPUs${each}`, has: `it has ${fitting} such GPUs` });
  }
  const { vm_template: template } = capabilities;
  if (wanted.vm_template !== undefined && wanted.vm_template !== template) {
    const has = `its template is ${template ?? "none"}`;
    found.push({ asked: `the template ${wanted.vm_template}`, has });
  }
  return found;
}

function size(bytes = 0): string {
  const gib = bytes / 2 ** 30;
  return gib >= 1 ? `${Number(gib.toFixed(1))} GiB` : `${Math.ceil(bytes / 2 ** 20)} MiB`;
}
