/** Workers: the hosts that run allocations, and the tokens that they join with. */
import type {
  Capabilities,
  JoinToken,
  JoinTokenFacts,
  JoinTokenList,
  Worker,
  WorkerDetail,
  WorkerList,
} from "../../contract/workers.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import { EXIT } from "../failure.ts";
import type { Column, Printer } from "../print.ts";
import { duration } from "../tables.ts";

const WORKER = { name: "worker", isRequired: true };
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const GIB = 2 ** 30;

export const workerLs: Command = {
  name: "worker ls",
  summary: "List workers, what they have and do, and their availability",
  options: { json: JSON_OPTION },
  async run({ options, print, connect }) {
    const list = await (await connect()).get<WorkerList>("workers");
    if (options.flag("json")) {
      print.json(list);
      return EXIT.done;
    }
    print.table(COLUMNS, list.workers);
    if (list.workers.length === 0) print.note("none yet: autocode worker token");
    const { availability, availability_target: target, window_ms: windowMs, pending } = list;
    const waiting = pending === 0 ? "" : `; ${pending} allocations wait for a worker`;
    if (availability === null) print.note(`scheduler ${list.scheduler}${waiting}`);
    else {
      const met = availability >= target ? "met" : "MISSED";
      const bar = `${percent(target)} is ${met}`;
      print.note(`available ${percent(availability)} of ${days(windowMs)}: ${bar}${waiting}`);
    }
    return EXIT.done;
  },
};

export const workerShow: Command = {
  name: "worker show",
  summary: "Show a worker: what it has, its outages, its allocations",
  positionals: [WORKER],
  options: { json: JSON_OPTION },
  async run({ positionals: [name = ""], options, print, connect }) {
    const path = `workers/${encodeURIComponent(name)}`;
    const detail = await (await connect()).get<WorkerDetail>(path);
    if (options.flag("json")) print.json(detail);
    else show(print, detail);
    return EXIT.done;
  },
};

export const workerDrain: Command = {
  name: "worker drain",
  summary: "Let a worker end what it has and give it nothing new",
  positionals: [WORKER],
  options: { undo: { type: "boolean", help: "Give it work again" }, json: JSON_OPTION },
  async run({ positionals: [name = ""], options, print, connect }) {
    const path = `workers/${encodeURIComponent(name)}/drain`;
    const body = { is_draining: !options.flag("undo") };
    const detail = await (await connect()).post<WorkerDetail>(path, body);
    if (options.flag("json")) print.json(detail);
    else {
      const { worker } = detail;
      print.line(`${worker.name} is ${worker.status}; it has ${worker.used} allocations`);
    }
    return EXIT.done;
  },
};

export const workerToken: Command = {
  name: "worker token",
  summary: "Make a token that lets hosts join a pool; it is shown this once",
  options: {
    pool: { type: "string", value: "<name>", help: "The hosts' pool (default)" },
    uses: { type: "string", value: "<count>", help: "How many hosts may join with it (1)" },
    ttl: { type: "string", value: "<time>", help: "How long it is good: 30m, 1h (default), 7d" },
    json: JSON_OPTION,
  },
  notes: [
    "On the host, in a checkout or an installed package of the same version:",
    "  AUTOCODE_API_URL=<this server> AUTOCODE_JOIN_TOKEN=<token> node worker-agent/host/main.ts",
  ],
  async run({ options, print, connect }) {
    const wanted = {
      pool: options.text("pool") ?? "default",
      uses: options.integer("uses", { min: 1, max: 10_000 }) ?? 1,
      ttl_ms: options.time("ttl", { daysMax: 30 }) ?? HOUR_MS,
    };
    const made = await (await connect()).post<JoinToken>("workers/tokens", wanted);
    if (options.flag("json")) {
      print.json(made);
      return EXIT.done;
    }
    print.line(made.token);
    const hosts = made.uses === 1 ? "1 host" : `${made.uses} hosts`;
    print.note(`good for ${hosts} of the pool ${made.pool}, until ${made.expires_at}`);
    return EXIT.done;
  },
};

export const workerRemove: Command = {
  name: "worker remove",
  summary: "Throw a worker out: its token is revoked, what it had is placed elsewhere",
  positionals: [WORKER],
  async run({ positionals: [name = ""], print, connect }) {
    await (await connect()).post(`workers/${encodeURIComponent(name)}/remove`);
    print.line(`${name} is thrown out; it comes back with a new join token alone`);
    return EXIT.done;
  },
};

export const workerTokenLs: Command = {
  name: "worker token ls",
  summary: "List the join tokens that hosts can still join with",
  options: { json: JSON_OPTION },
  async run({ options, print, connect }) {
    const list = await (await connect()).get<JoinTokenList>("workers/tokens");
    if (options.flag("json")) print.json(list);
    else print.table(TOKEN_COLUMNS, list.tokens);
    return EXIT.done;
  },
};

export const workerTokenRevoke: Command = {
  name: "worker token revoke",
  summary: "Revoke a join token, by its id; hosts that joined with it stay",
  positionals: [{ name: "token", isRequired: true }],
  async run({ positionals: [id = ""], print, connect }) {
    await (await connect()).post(`workers/tokens/${encodeURIComponent(id)}/revoke`);
    print.line(`${id} is revoked`);
    return EXIT.done;
  },
};

const TOKEN_COLUMNS: readonly Column<JoinTokenFacts>[] = [
  { title: "token", value: ({ id }) => id },
  { title: "pool", value: ({ pool }) => pool, shrinks: true },
  { title: "hosts", value: ({ uses_left: left }) => String(left), align: "right" },
  { title: "expires", value: ({ expires_at: at }) => at },
];

const COLUMNS: readonly Column<Worker>[] = [
  { title: "worker", value: ({ name }) => name, shrinks: true },
  { title: "pool", value: ({ pool }) => pool, shrinks: true },
  { title: "status", value: ({ status }) => status },
  { title: "used", value: ({ used, slots }) => `${used}/${slots}`, align: "right" },
  { title: "has", value: ({ capabilities }) => summary(capabilities), shrinks: true },
  { title: "available", value: ({ availability }) => percent(availability), align: "right" },
];

function show(print: Printer, { worker, outages, allocations, window_ms: windowMs }: WorkerDetail) {
  const { name, pool, status, slots, used, capabilities, availability } = worker;
  print.line(`${name}  ${status}, pool ${pool}, ${used} of ${slots} slots used`);
  print.line(`id         ${worker.id}`);
  print.line(`has        ${summary(capabilities)}`);
  if (capabilities !== null) {
    print.line(`agents     ${capabilities.agents.join(", ") || "none installed yet"}`);
    print.line(`template   ${capabilities.vm_template ?? "none"}`);
  }
  if (worker.heartbeat_at !== null) print.line(`heard      ${worker.heartbeat_at}`);
  print.line(`available  ${percent(availability)} of ${days(windowMs)}`);
  for (const { started_at: from, ended_at: to } of outages) {
    const lasted = to === null ? "still" : duration(Date.parse(to) - Date.parse(from));
    print.line(`silent     ${from}  ${lasted}`);
  }
  if (allocations.length === 0) return;
  print.line("");
  print.table(
    [
      { title: "allocation", value: (each) => each.allocation_id },
      { title: "trial", value: (each) => each.trial_id ?? "-", shrinks: true },
      { title: "state", value: (each) => each.state },
    ],
    allocations,
  );
}

function summary(capabilities: Capabilities | null): string {
  if (capabilities === null) return "-";
  const { cpus, memory_bytes: memory, gpus } = capabilities;
  const shown = `${cpus} CPU, ${Math.round(memory / GIB)} GiB`;
  return gpus.length === 0 ? shown : `${shown}, ${gpus.length} × ${gpus[0]?.name}`;
}

/** Rounded down: what was missed is not shown as met. */
function percent(ratio: number | null): string {
  return ratio === null ? "-" : `${(Math.floor(ratio * 10_000) / 100).toFixed(2)} %`;
}

function days(ms: number): string {
  return `${Math.round(ms / DAY_MS)} days`;
}
