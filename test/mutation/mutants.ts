/**
 * The guards that money depends on, each with the patch that removes it and the tests that must
 * then fail. A patch is an exact text of a file, which stands there once.
 */

export interface Mutant {
  guard: string;
  file: string;
  find: string;
  replace: string;
  /** The narrowest test files that should notice. */
  tests: readonly string[];
}

const LEDGER = "test/orchestrator/ledger/ledger.test.ts";
const CONCURRENCY = "test/orchestrator/ledger/concurrency.test.ts";
const DECIDE = "test/orchestrator/ledger/decide.test.ts";
const ONE_TRIP = "test/orchestrator/ledger/one-trip.test.ts";
const CONSTRAINTS = "test/orchestrator/ledger/constraints.test.ts";
const JOURNAL = "test/orchestrator/ledger/journal.test.ts";
const CLOCK = "test/simulation/clock.test.ts";
const BUDGET = "test/proxy/gateway/budget.test.ts";
const EGRESS = "test/proxy/egress/decide.test.ts";
const EGRESS_TARGETS = "test/proxy/egress/targets.test.ts";
const REQUEST = "test/proxy/gateway/request.test.ts";
const SERVER = "test/proxy/gateway/server.test.ts";

const oneTrip = "orchestrator/ledger/one-trip.ts";
const single = "orchestrator/ledger/single.ts";
const decide = "orchestrator/ledger/decide.ts";
const schema = "orchestrator/db/migrations/0001_ledger.sql";

export const MUTANTS: readonly Mutant[] = [
  {
    guard: "the ceiling is written into the request",
    file: "proxy/gateway/request.ts",
    find: "    edits.push(setMember(object, key, ceiling));",
    replace: "    void [object, key, ceiling];",
    tests: [REQUEST, BUDGET],
  },
  {
    guard: "the conditional reserve: one statement inserts only what every level covers",
    file: single,
    find: "from decision where are_found and not is_repeated and short_id is null",
    replace: "from decision where are_found and not is_repeated",
    tests: [LEDGER],
  },
  {
    guard: "the refusal of a reserve that is flushed with others",
    file: decide,
    find: "const isCovered = !account.mustNotExceed || availableNanos >= amountNanos;",
    replace: "const isCovered = !account.mustNotExceed || availableNanos >= 0n;",
    tests: [DECIDE, LEDGER],
  },
  {
    guard: "the locks of the single statement",
    file: single,
    find: `      from account where id = any(\${sql.param(accountIds)})
      order by id
      for no key update`,
    replace: `      from account where id = any(\${sql.param(accountIds)})
      order by id`,
    tests: [CONCURRENCY],
  },
  {
    guard: "the locks of the flush",
    file: "orchestrator/ledger/flush.ts",
    find: `        order by id
        for no key update`,
    replace: "        order by id",
    tests: [CONCURRENCY],
  },
  {
    guard: "the locks of the one trip",
    file: oneTrip,
    find: `    order by id
    for no key update`,
    replace: "    order by id",
    tests: [ONE_TRIP],
  },
  {
    guard: "the one trip writes only what is covered when its turn comes",
    file: oneTrip,
    find: "- debits_pending_nanos >= drawn",
    replace: "- debits_pending_nanos >= 0",
    tests: [ONE_TRIP],
  },
  {
    guard: "CHECK account_never_overspent",
    file: schema,
    find: `    not must_not_exceed
    or debits_pending_nanos + debits_posted_nanos <= credits_posted_nanos`,
    replace: "    true",
    tests: [CONSTRAINTS],
  },
  {
    guard: "unique index transfer_resolved_once",
    file: schema,
    find: "create unique index transfer_resolved_once",
    replace: "create index transfer_resolved_once",
    tests: [CONSTRAINTS],
  },
  {
    guard: "transfer id: a repeated id is looked for (single statement)",
    file: single,
    find: `exists (select from transfer where id = \${id}) as is_repeated,\n        short.id`,
    replace: "false as is_repeated,\n        short.id",
    tests: [LEDGER, CONCURRENCY],
  },
  {
    guard: "transfer id: a repeated id is looked for (flush)",
    file: decide,
    find: 'if (state.transferIds.has(id)) return { outcome: "already_reserved" };',
    replace: "",
    tests: [DECIDE, LEDGER],
  },
  {
    guard: "a repeat that waited for its first is told so",
    file: single,
    find: 'if (repeated.length > 0) return { outcome: "already_reserved" };',
    replace: "void repeated;",
    tests: [CONCURRENCY],
  },
  {
    guard: "a reservation is resolved once (single statement)",
    file: single,
    find: `where locked_count > 0 and resolved_reason is null and \${amount} <= amount_nanos`,
    replace: `where locked_count > 0 and \${amount} <= amount_nanos`,
    tests: [LEDGER, CONCURRENCY],
  },
  {
    guard: "a reservation is resolved once (flush)",
    file: decide,
    find: 'if (resolved !== undefined && late === null) return refuse({ outcome: "already_resolved" });',
    replace: "",
    tests: [DECIDE, LEDGER],
  },
  {
    guard: "settle <= reserved (single statement)",
    file: single,
    find: `resolved_reason is null and \${amount} <= amount_nanos`,
    replace: "resolved_reason is null",
    tests: [LEDGER],
  },
  {
    guard: "settle <= reserved (flush)",
    file: decide,
    find: "if (costNanos > reservedNanos) return",
    replace: "if (costNanos < 0n) return",
    tests: [DECIDE, LEDGER],
  },
  {
    guard: "expiry posts what may have been forwarded",
    file: "orchestrator/ledger/expiry.ts",
    find: 'if (expiresTo === "void")',
    replace: "if (expiresTo)",
    tests: [LEDGER],
  },
  {
    guard: "expiry gives back what cannot have been forwarded",
    file: "orchestrator/ledger/expiry.ts",
    find: 'if (expiresTo === "void")',
    replace: 'if (expiresTo === ("nothing" as string))',
    tests: [LEDGER],
  },
  {
    guard: "expiry takes only what is over",
    file: "orchestrator/ledger/expiry.ts",
    find: `sql\`expires_at <= \${rfc3339(now)} and`,
    replace: "sql`",
    tests: [LEDGER],
  },
  {
    guard: "what expiry posted is corrected once",
    file: decide,
    find: "if (reversed?.isCorrected) return null;",
    replace: "",
    tests: [DECIDE, LEDGER],
  },
  {
    guard: "within[]: the enclosing budgets are part of the path (single statement)",
    file: single,
    find: "const budgets = [...within, budget];",
    replace: "const budgets = [budget];",
    tests: [LEDGER],
  },
  {
    guard: "within[]: every enclosing budget must cover it (flush)",
    file: decide,
    find: "for (const accountId of [...within, budget, spend]) {",
    replace: "for (const accountId of [budget, spend]) {",
    tests: [DECIDE, LEDGER],
  },
  {
    guard: "within[]: a debit is a debit of what encloses it (flush)",
    file: decide,
    find: "for (const accountId of isReversal ? [debit] : [...within, debit]) {",
    replace: "for (const accountId of [debit]) {",
    tests: [DECIDE, LEDGER],
  },
  {
    guard: "an unpriced model is refused",
    file: "proxy/gateway/draft.ts",
    find: `  const rates = readRates(model.price, currency);
  if (rates === null) {`,
    replace: `  const rates = readRates(model.price, currency);
  if (model.price === null) {`,
    tests: [SERVER, "test/proxy/gateway/resolve-model.test.ts", BUDGET],
  },
  {
    guard: "a revoked key is refused",
    file: "orchestrator/keys/postgres.ts",
    find: 'if (row.revoked_at !== null) return { outcome: "revoked" };',
    replace: "",
    tests: ["test/orchestrator/keys/keys.test.ts"],
  },
  {
    guard: "a key is looked up again though its clock was set back",
    file: "orchestrator/keys/postgres.ts",
    find: "now >= kept.readAtMs && now < kept.readAtMs + CACHED_MS",
    replace: "now < kept.readAtMs + CACHED_MS",
    tests: [CLOCK],
  },
  {
    guard: "a journal entry is chained to the one before",
    file: "orchestrator/journal/chain.ts",
    find: ".update(chain).update(transferContent(transfer))",
    replace: ".update(transferContent(transfer))",
    tests: ["test/orchestrator/journal/verify.test.ts", JOURNAL],
  },
  {
    guard: "the journal waits for who may still commit a lower number",
    file: "orchestrator/ledger/journal.ts",
    find: "return row?.is_decided === true;",
    replace: "return row !== undefined;",
    tests: [JOURNAL],
  },
  {
    guard: "an idempotency key belongs to one body",
    file: "orchestrator/api/idempotency.ts",
    find: "if (first.equals(second)) return;",
    replace: "if (first.length === second.length) return;",
    tests: ["test/orchestrator/api/idempotency.test.ts"],
  },
  {
    guard: "a call is never charged more than was reserved",
    file: "proxy/gateway/bill.ts",
    find: "if (costNanos <= amountNanos) {",
    replace: "if (costNanos >= 0n) {",
    tests: ["test/proxy/gateway/bill.test.ts", BUDGET],
  },
  {
    guard: "a key of the body that stands twice is refused",
    file: "proxy/gateway/json-scan.ts",
    find: "if (members.has(key)) throw new ScanError(",
    replace: "if (key === null) throw new ScanError(",
    tests: ["test/proxy/gateway/json-scan.test.ts"],
  },
  {
    guard: "egress: each address of a name is checked",
    file: "proxy/egress/policy.ts",
    find: 'if (kind === "public") continue;',
    replace: 'if (kind === "public") return null;',
    tests: [EGRESS],
  },
  {
    guard: "egress: the platform's own is reached by no rule",
    file: "proxy/egress/decide.ts",
    find: "if (await deciding.isOwn(host, port, addresses)) {",
    replace: "if (port === 0) {",
    tests: [EGRESS_TARGETS],
  },
  {
    guard: "egress: a number is no name",
    file: "proxy/egress/targets.ts",
    find: 'if (NUMERIC.test(labels.at(-1) ?? "")) {',
    replace: "if (labels.length === 0) {",
    tests: [EGRESS_TARGETS],
  },
  {
    guard: "egress: a name is not resolved before a rule lets it through",
    file: "proxy/egress/decide.ts",
    find: "const { host, port } = read.value;",
    replace: "const { host, port } = read.value;\n    await deciding.resolve(host);",
    tests: [EGRESS],
  },
  {
    guard: "egress: TLS is for the host that was asked for",
    file: "proxy/egress/heads.ts",
    find: 'if (read.outcome === "read" && isSame(read.value, host)) return null;',
    replace: 'if (read.outcome === "read") return null;',
    tests: [EGRESS],
  },
  {
    guard: "egress: a secret is put in for its rule's hosts alone",
    file: "proxy/egress/credentials.ts",
    find: "const other = asked.find((path) => path !== credential?.secret);",
    replace: "const other = asked.find((path) => path === undefined);",
    tests: [EGRESS],
  },
  {
    guard: "egress: the canary is looked for in every request",
    file: "proxy/egress/decide.ts",
    find: "if (!isGateway && holdsCanary(deciding.canaries(), [textOf(head)])) {",
    replace: "if (isGateway && holdsCanary(deciding.canaries(), [textOf(head)])) {",
    tests: [EGRESS],
  },
  {
    guard: "egress: an allow holds of every reading of a path",
    file: "proxy/egress/policy.ts",
    find: ": methods.every(isOfMethod) && paths.every(isOfPath);",
    replace: ": methods.every(isOfMethod) && paths.some(isOfPath);",
    tests: ["test/proxy/egress/policy.test.ts"],
  },
  {
    guard: "egress: a proxy's password is the allocation's",
    file: "proxy/egress/sessions-postgres.ts",
    find: "if (row === null || !timingSafeEqual(given, row.password_sha256)) return null;",
    replace: "if (row === null || given.length === 0) return null;",
    tests: ["test/proxy/egress/sessions-postgres.test.ts"],
  },
  {
    guard: "egress: an allocation that ended has no session",
    file: "proxy/egress/sessions-postgres.ts",
    find: "if (!row.is_current) endLive(live, ENDED);",
    replace: "if (row.agent === row.canary) endLive(live, ENDED);",
    tests: ["test/proxy/egress/sessions-postgres.test.ts"],
  },
];
