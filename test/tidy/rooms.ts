/**
 * Who may import whom: imports go downwards only, so that a part can be understood, tested and
 * replaced without what is above it. One row a room; what a row does not name is refused.
 */

/** What a room's files may import: prefixes of paths; `ports`: the port files of capabilities. */
interface Row {
  readonly room: string;
  readonly may: readonly string[];
}

const O = "orchestrator";
const FOUNDATION = [`${O}/runtime/`, `${O}/money.ts`, `${O}/problem.ts`];
const CAPABILITY = [...FOUNDATION, `${O}/contract/`, `${O}/db/`, `${O}/journal/`, "ports"];

const GATEWAY = [
  ...FOUNDATION,
  `${O}/contract/`,
  `${O}/ledger/ledger.ts`,
  `${O}/keys/keys.ts`,
  `${O}/traffic/sink.ts`,
  "models/",
];

const EGRESS = [
  ...FOUNDATION,
  `${O}/contract/`,
  `${O}/secrets/secrets.ts`,
  `${O}/traffic/sink.ts`,
  `${O}/traffic/traffic.ts`,
];

/** The first row whose room is a prefix of a file's path is the file's. */
const ROWS: readonly Row[] = [
  { room: `${O}/contract/`, may: [] },
  { room: `${O}/runtime/`, may: [] },
  { room: `${O}/money.ts`, may: [] },
  { room: `${O}/problem.ts`, may: [] },
  {
    room: `${O}/config.ts`,
    may: [
      `${O}/runtime/`,
      `${O}/config-egress.ts`,
      `${O}/config-engines.ts`,
      `${O}/config-fleet.ts`,
      `${O}/config-serving.ts`,
    ],
  },
  { room: `${O}/config-egress.ts`, may: [`${O}/config-engines.ts`] },
  { room: `${O}/config-engines.ts`, may: [] },
  { room: `${O}/config-fleet.ts`, may: [`${O}/config-engines.ts`] },
  { room: `${O}/config-serving.ts`, may: [`${O}/config-engines.ts`] },
  { room: `${O}/addresses.ts`, may: [`${O}/config.ts`] },
  { room: `${O}/db/`, may: FOUNDATION },
  // Pure: the journal's arithmetic, which a command checks an export with, offline.
  { room: `${O}/journal/`, may: [`${O}/contract/`] },
  { room: `${O}/ledger/`, may: [...FOUNDATION, `${O}/contract/`, `${O}/db/`, `${O}/journal/`] },
  // A VM's files are made where the command runs, with no server: as a journal is checked.
  // An operator makes a Vault ready before any server of ours runs.
  {
    room: `${O}/cli/commands/vault.ts`,
    may: [`${O}/cli/`, `${O}/secrets/vault-client.ts`, `${O}/secrets/vault-setup.ts`],
  },
  {
    room: `${O}/cli/commands/vm`,
    may: [`${O}/cli/`, `${O}/contract/`, "vm-templates/"],
  },
  {
    room: `${O}/cli/`,
    // Beside the contract what is pure, and done offline: checking a journal, sealing a backup.
    may: [`${O}/contract/`, `${O}/journal/`, `${O}/backup/envelope.ts`, `${O}/money.ts`],
  },
  { room: `${O}/compose.ts`, may: [""] },
  { room: `${O}/compose-gateway.ts`, may: [""] },
  { room: `${O}/compose-checkpoints.ts`, may: [""] },
  { room: `${O}/compose-duties.ts`, may: [""] },
  { room: `${O}/compose-egress.ts`, may: [""] },
  { room: `${O}/compose-traffic.ts`, may: [""] },
  { room: `${O}/compose-replay.ts`, may: [""] },
  { room: `${O}/compose-backup.ts`, may: [""] },
  { room: `${O}/compose-scheduler.ts`, may: [""] },
  { room: `${O}/compose-secrets.ts`, may: [""] },
  { room: `${O}/compose-nomad.ts`, may: [""] },
  { room: `${O}/compose-accounting.ts`, may: [""] },
  { room: `${O}/compose-launcher.ts`, may: [""] },
  { room: `${O}/compose-samples.ts`, may: [""] },
  { room: `${O}/compose-serving.ts`, may: [""] },
  { room: `${O}/compose-weights.ts`, may: [""] },
  { room: `${O}/compose-workers.ts`, may: [""] },
  {
    room: `${O}/main.ts`,
    may: [...FOUNDATION, `${O}/addresses.ts`, `${O}/cli/`, `${O}/compose.ts`, `${O}/config.ts`],
  },
  // An adapter may import what its engine is: the catalogue of models, the database.
  { room: `${O}/trials/catalog-pairs.ts`, may: [...CAPABILITY, "models/"] },
  // What is planned, and run, is a model of the catalogue.
  { room: `${O}/serving/`, may: [...CAPABILITY, "models/"] },
  { room: `${O}/weights/`, may: [...CAPABILITY, "models/"] },
  // The rules that a call was charged by.
  { room: `${O}/trials/reprice.ts`, may: [...CAPABILITY, "models/rates.ts"] },
  // Its engine is this machine, run with the code that a host runs its own allocations with.
  { room: `${O}/scheduler/local.ts`, may: [...CAPABILITY, "worker-agent/"] },
  { room: `${O}/`, may: CAPABILITY },
  { room: "worker-agent/", may: [`${O}/contract/`] },
  {
    room: "proxy/gateway/main.ts",
    may: [
      "proxy/gateway/",
      ...FOUNDATION,
      `${O}/cli/`,
      `${O}/compose-gateway.ts`,
      `${O}/config.ts`,
    ],
  },
  {
    room: "proxy/egress/main.ts",
    may: [...FOUNDATION, `${O}/cli/`, `${O}/compose-egress.ts`, `${O}/config.ts`],
  },
  { room: "proxy/gateway/calls-postgres.ts", may: ["proxy/gateway/", ...GATEWAY, `${O}/db/`] },
  { room: "proxy/gateway/", may: GATEWAY },
  // What a session is lies in the database; all else of the proxies knows nothing of one.
  { room: "proxy/egress/sessions-postgres.ts", may: ["proxy/egress/", ...EGRESS, `${O}/db/`] },
  { room: "proxy/egress/", may: EGRESS },
  // What was recorded is played by a stand-in for the gateway: it says errors as the gateway does.
  {
    room: "proxy/replay/",
    may: [
      ...FOUNDATION,
      `${O}/contract/`,
      `${O}/keys/keys.ts`,
      "proxy/gateway/body.ts",
      "proxy/gateway/credential.ts",
      "proxy/gateway/refusal.ts",
      "proxy/egress/guard.ts",
      "proxy/egress/refusal.ts",
    ],
  },
  { room: "models/", may: [`${O}/contract/`, `${O}/money.ts`] },
  // It runs beside qemu as well as in the command line, and knows nothing of an installation.
  { room: "vm-templates/", may: [] },
  { room: "dashboards/", may: [`${O}/contract/`] },
  { room: "tools/", may: [""] },
  { room: "bin/", may: [`${O}/cli/main.ts`] },
  { room: "test/", may: [""] },
];

/** Files beside a folder's own port (`<folder>/<folder>.ts`) that hold types and pure values. */
const FURTHER_PORTS: readonly string[] = [
  `${O}/api/services.ts`,
  `${O}/agents/installed.ts`,
  `${O}/projects/egress-proposal.ts`,
  `${O}/projects/egress-rules.ts`,
  `${O}/projects/layout.ts`,
  `${O}/scheduler/placement.ts`,
  `${O}/tasks/requirements.ts`,
  `${O}/traffic/cassette.ts`,
  `${O}/traffic/filter.ts`,
  `${O}/traffic/har.ts`,
  `${O}/traffic/sink.ts`,
  `${O}/traffic/sources.ts`,
  `${O}/trials/approvals.ts`,
  `${O}/trials/pairs.ts`,
  `${O}/trials/worker-sessions.ts`,
];

/** Null when `path` may import `target`; else the room whose row refuses it. */
export function refusedBy(path: string, target: string): string | null {
  const row = ROWS.find(({ room }) => path.startsWith(room));
  if (row === undefined) return "no row of test/tidy/rooms.ts";
  const isSameFolder = path.split("/").length > 2 && folderOf(path) === folderOf(target);
  if (
    isSameFolder ||
    (row.room.endsWith("/") && row.room !== `${O}/` && target.startsWith(row.room))
  ) {
    return null;
  }
  const isAllowed = row.may.some((prefix) =>
    prefix === "ports" ? isPort(target) : target.startsWith(prefix),
  );
  return isAllowed ? null : row.room;
}

export function isPort(path: string): boolean {
  const [, folder, file] = /^orchestrator\/([^/]+)\/([^/]+)\.ts$/.exec(path) ?? [];
  return (folder !== undefined && folder === file) || FURTHER_PORTS.includes(path);
}

/** The capability a file belongs to, be the file in a folder of its own or not. */
export function folderOf(path: string): string {
  const parts = path.split("/");
  return parts[0] === O ? parts.slice(0, 2).join("/") : (parts[0] ?? "");
}
