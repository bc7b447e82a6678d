/** Named API tokens: for a job or a pipeline, which no restart of the server takes away. */
import type { ApiRole, ApiToken, ApiTokenFacts, ApiTokenList } from "../../contract/tokens.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import { EXIT, usage } from "../failure.ts";
import type { Column } from "../print.ts";

const NAME = [{ name: "name", isRequired: true }] as const;
const ROLES: readonly ApiRole[] = ["viewer", "operator", "admin"];
const DAY_MS = 86_400_000;
const DAYS_DEFAULT = 90;
const DAYS_MAX = 3_650;

export const tokenCreate: Command = {
  name: "token create",
  summary: "Make an API token for a job or a pipeline; it is shown this once",
  positionals: NAME,
  options: {
    role: { type: "string", value: "<role>", help: "viewer (default), operator or admin" },
    expires: { type: "string", value: "<time>", help: "12h, 90d (default), or never" },
    json: JSON_OPTION,
  },
  notes: [
    "A viewer reads; an operator also runs and stops trials and experiments, within the budgets;",
    "an admin also makes budgets, secrets and tokens. It is AUTOCODE_TOKEN, beside AUTOCODE_URL.",
  ],
  async run({ positionals: [name = ""], options, print, connect }) {
    const given = options.text("role") ?? "viewer";
    const role = ROLES.find((each) => each === given);
    if (role === undefined) throw usage(`--role: "${given}" must be ${ROLES.join(", ")}`);
    const isForEver = options.text("expires") === "never";
    const limits = { daysMax: DAYS_MAX };
    const ttlMs = isForEver ? null : (options.time("expires", limits) ?? DAYS_DEFAULT * DAY_MS);
    const made = await (await connect()).post<ApiToken>("tokens", { name, role, ttl_ms: ttlMs });
    if (options.flag("json")) print.json(made);
    else {
      print.line(made.token);
      print.note(`${made.name} has the role ${made.role}; ${expiry(made)}`);
    }
    return EXIT.done;
  },
};

export const tokenLs: Command = {
  name: "token ls",
  summary: "List the API tokens that have a name, never their secrets",
  options: { json: JSON_OPTION },
  async run({ options, print, connect }) {
    const list = await (await connect()).get<ApiTokenList>("tokens");
    if (options.flag("json")) print.json(list);
    else print.table(COLUMNS, list.tokens);
    return EXIT.done;
  },
};

export const tokenRevoke: Command = {
  name: "token revoke",
  summary: "Revoke an API token, by its name, at once and for ever",
  positionals: NAME,
  async run({ positionals: [name = ""], print, connect }) {
    await (await connect()).post(`tokens/${encodeURIComponent(name)}/revoke`);
    print.line(`${name} is revoked`);
    return EXIT.done;
  },
};

const COLUMNS: readonly Column<ApiTokenFacts>[] = [
  { title: "name", value: ({ name }) => name, shrinks: true },
  { title: "role", value: ({ role }) => role },
  { title: "created", value: ({ created_at: at }) => minute(at) },
  { title: "last used", value: ({ last_used_at: at }) => (at === null ? "never" : minute(at)) },
  {
    title: "expires",
    value: ({ expires_at: at, is_expired: isExpired }) =>
      at === null ? "never" : isExpired ? "EXPIRED" : minute(at),
  },
];

function expiry({ expires_at: at }: Pick<ApiToken, "expires_at">): string {
  return at === null ? "good until it is revoked" : `good until ${at}`;
}

/** "2026-11-22 08:40Z" of RFC 3339 in UTC. */
function minute(at: string): string {
  return `${at.slice(0, 16).replace("T", " ")}Z`;
}
