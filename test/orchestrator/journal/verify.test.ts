/**
 * Goal: whatever is done to an export of the ledger is found, and named as what it is, where it is.
 *
 * Method: one real export is changed in every way that its parts allow: each field of each line,
 * each line away, twice, elsewhere, and lines put in, with and without a chain that fits. The check
 * is given the text in pieces of any size.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import fc from "fast-check";
import type {
  ExportRecord,
  LedgerReport,
  TransferRecord,
} from "../../../orchestrator/contract/ledger.ts";
import {
  describeKey,
  GENESIS,
  nextChain,
  transferContent,
} from "../../../orchestrator/journal/chain.ts";
import {
  createTestSigner,
  makeHistory,
  openTestJournal,
  recordsOf,
  textOf,
  verifyText,
} from "../../support/journal.ts";
import { rechained, renumbered, resigned } from "../../support/journal-forgery.ts";
import { openTestLedger, type TestLedger } from "../../support/ledger.ts";

const OTHER_ID = "transfer_01m7yzmhg0fffffffffffffff0";
const OTHER_ACCOUNT = "account_01m7yzmhg0fffffffffffffff0";
const OTHER_TIME = "2026-11-21T11:59:59.000001Z";
const OTHER_HASH = "0".repeat(64);

let world: TestLedger;
let exported = "";
let records: ExportRecord[] = [];
let sealed: TransferRecord[] = [];

before(async () => {
  world = await openTestLedger({ batchMax: 1 });
  const { journal, exportText } = openTestJournal(world);
  await makeHistory(world, journal);
  exported = await exportText();
  records = recordsOf(exported);
  sealed = records.filter((record) => record.type === "transfer");
});
after(() => world[Symbol.asyncDispose]());

test("an export that nobody touched is intact, in whatever pieces it is read", async () => {
  const report = await verifyText(exported);
  assert.equal(report.fault, null);
  assert.deepEqual(
    { ...report, keys: report.keys.length },
    {
      is_intact: true,
      is_key_trusted: false,
      accounts: 6,
      sealed: sealed.length,
      unsealed: 0,
      checkpoints: 3,
      unsigned: 0,
      chain: sealed.at(-1)?.chain,
      last_signed_at: "2026-11-21T12:00:10.000000Z",
      keys: 1,
      fault: null,
    },
  );
  for (const kind of ["direct", "pending", "post", "void"]) {
    assert.ok(
      sealed.some((each) => each.kind === kind),
      `no ${kind} is among them`,
    );
  }
  assert.equal(sealed.filter(({ reverses_id: id }) => id !== null).length, 4);
  for (const pieceBytes of [1, 7, 1_000]) {
    assert.deepEqual(await verifyText(exported, {}, pieceBytes), report);
  }
});

test("the bytes that are hashed are the ones that are written down for others", (t) => {
  const [transfer] = sealed;
  assert.ok(transfer !== undefined);
  const fixed: TransferRecord = {
    ...transfer,
    id: OTHER_ID,
    within: [OTHER_ACCOUNT],
    note: 'é "\\\u2028',
    expires_at: null,
  };
  const content = transferContent({ ...fixed, debit_account_id: "d", credit_account_id: "c" });
  t.assert.snapshot(content);
  const chain = nextChain(GENESIS, { ...fixed, debit_account_id: "d", credit_account_id: "c" });
  t.assert.snapshot(chain.toString("hex"));
});

test("a changed transfer is named, whichever field it was", async () => {
  const others: { [Field in keyof TransferRecord]: TransferRecord[Field][] } = {
    type: ["transfer"],
    position: [10_000],
    chain: [OTHER_HASH],
    id: [OTHER_ID],
    seq: [10_000],
    kind: ["direct", "pending", "post", "void"],
    debit_account_id: [OTHER_ACCOUNT],
    within: [[], [OTHER_ACCOUNT]],
    credit_account_id: [OTHER_ACCOUNT],
    amount_nanos: ["0", "999999999999"],
    pending_id: [null, OTHER_ID],
    reverses_id: [null, OTHER_ID],
    expires_at: [null, OTHER_TIME],
    expires_to: [null, "post", "void"],
    reason: ["topup"],
    note: [null, "x"],
    created_at: [OTHER_TIME],
  };
  let changes = 0;
  for (const transfer of sealed) {
    for (const [field, values] of Object.entries(others)) {
      for (const value of values) {
        const changed = { ...transfer, [field]: value };
        if (JSON.stringify(changed) === JSON.stringify(transfer)) continue;
        const { fault } = await verifyText(textOf(replace(transfer, changed)));
        const place = `${field} of ${transfer.position} to ${JSON.stringify(value)}`;
        assert.equal(fault?.what, "changed", place);
        assert.equal(fault.line, lineOf(transfer), place);
        assert.equal(fault.transfer_id, changed.id, place);
        changes += 1;
      }
    }
  }
  assert.ok(changes > 20 * sealed.length - 100);
});

test("a removed transfer is named, whether or not the others close the gap", async () => {
  for (const transfer of sealed) {
    const place = `position ${transfer.position}`;
    const gap = await verifyText(textOf(replace(transfer)));
    assert.equal(gap.fault?.what, "removed", place);
    assert.equal(gap.fault.position, transfer.position, place);
    const closed = await verifyText(textOf(renumbered(replace(transfer))));
    assert.equal(closed.fault?.what, "removed", place);
    assert.equal(closed.fault.position, transfer.position, place);
  }
  const [, second, third] = sealed;
  assert.ok(second !== undefined && third !== undefined);
  const both = records.filter((record) => record !== second && record !== third);
  assert.match(
    (await verifyText(textOf(both))).fault?.detail ?? "",
    /Positions 2 to 3 are missing/,
  );
});

test("an inserted transfer is named", async (t) => {
  await t.test("a copy of another", async () => {
    await fc.assert(
      fc.asyncProperty(index(), index(), fc.boolean(), async (from, at, isRenumbered) => {
        const copy = structuredClone(sealed[from] as TransferRecord);
        const others = insertBefore(at, [copy]);
        const { fault } = await verifyText(textOf(isRenumbered ? renumbered(others) : others));
        assert.equal(fault?.what, "inserted");
        assert.equal(fault.transfer_id, copy.id);
      }),
      { numRuns: 100 },
    );
  });

  await t.test("a forged one, without a chain that fits", async () => {
    for (const at of sealed.keys()) {
      const forged = forge(at, OTHER_HASH);
      for (const others of [insertBefore(at, [forged]), renumbered(insertBefore(at, [forged]))]) {
        const { fault } = await verifyText(textOf(others));
        assert.deepEqual([fault?.what, fault?.transfer_id], ["inserted", OTHER_ID], `at ${at}`);
      }
    }
  });

  await t.test("a forged one, with a chain of its own that fits", async () => {
    for (const at of sealed.keys()) {
      const before = at === 0 ? GENESIS : Buffer.from(sealed[at - 1]?.chain ?? "", "hex");
      const forged = forge(at, OTHER_HASH);
      const chained = { ...forged, chain: nextChain(before, forged).toString("hex") };
      const { fault } = await verifyText(textOf(renumbered(insertBefore(at, [chained]))));
      assert.deepEqual([fault?.what, fault?.transfer_id], ["inserted", OTHER_ID], `at ${at}`);
    }
  });

  await t.test("several behind each other", async () => {
    const forged = [forge(5, OTHER_HASH), { ...forge(5, "1".repeat(64)), id: `${OTHER_ID}` }];
    const { fault } = await verifyText(textOf(insertBefore(5, forged)));
    assert.deepEqual([fault?.what, fault?.transfer_id], ["inserted", OTHER_ID]);
  });
});

test("a moved transfer is named", async (t) => {
  await t.test("two that changed places", async () => {
    await fc.assert(
      fc.asyncProperty(index(), index(), fc.boolean(), async (one, two, isRenumbered) => {
        fc.pre(one !== two);
        const [first, second] = [sealed[one], sealed[two]];
        const swapped = records.map((each) =>
          each === first ? second : each === second ? first : each,
        ) as ExportRecord[];
        const { fault } = await verifyText(textOf(isRenumbered ? renumbered(swapped) : swapped));
        assert.equal(fault?.what, "moved");
        assert.ok(fault.transfer_id === first?.id || fault.transfer_id === second?.id);
      }),
      { numRuns: 150 },
    );
  });

  await t.test("one that stands elsewhere", async () => {
    await fc.assert(
      fc.asyncProperty(index(), index(), async (from, to) => {
        const transfer = sealed[from] as TransferRecord;
        const target = sealed[to] as TransferRecord;
        fc.pre(Math.abs(from - to) > 1);
        const without = replace(transfer);
        const at = without.indexOf(target);
        const moved = [...without.slice(0, at), transfer, ...without.slice(at)];
        const { fault } = await verifyText(textOf(renumbered(moved)));
        assert.deepEqual([fault?.what, fault?.transfer_id], ["moved", transfer.id]);
      }),
      { numRuns: 100 },
    );
  });
});

test("a chain made anew does not fit what was signed", async () => {
  const signed = records.filter((record) => record.type === "checkpoint");
  for (const at of sealed.keys()) {
    const forged = insertBefore(at, [forge(at, OTHER_HASH)]);
    const { fault } = await verifyText(textOf(rechained(forged)));
    const next = signed.find(({ position }) => position >= at + 1);
    const from = (signed.findLast(({ position }) => position <= at)?.position ?? 0) + 1;
    assert.ok(fault !== null && next !== undefined);
    // Its checkpoint, now behind one transfer more than it signed, or the one that it was made for.
    assert.ok(["rechained", "moved"].includes(fault.what), `at ${at}: ${fault.what}`);
    assert.ok(fault.position === from || fault.position === next.position, `at ${at}`);
  }
  for (const transfer of sealed) {
    const changed = { ...transfer, reason: "topup" };
    const { fault } = await verifyText(textOf(rechained(replace(transfer, changed))));
    const position = transfer.position ?? 0;
    const from = (signed.findLast((each) => each.position < position)?.position ?? 0) + 1;
    assert.deepEqual([fault?.what, fault?.position], ["rechained", from]);
  }
});

test("what the ledger would have refused is named, though everything is sealed and signed", async (t) => {
  const post = sealed.find(({ kind }) => kind === "post") as TransferRecord;
  const pending = sealed.find(({ kind }) => kind === "pending") as TransferRecord;
  const reversal = sealed.find(({ reverses_id: id }) => id !== null) as TransferRecord;
  const cases: [string, TransferRecord, TransferRecord, string, RegExp][] = [
    [
      "more than a reservation holds",
      post,
      { ...post, amount_nanos: "10000" },
      "impossible",
      /its reservation's/,
    ],
    [
      "a second resolution",
      post,
      { ...post, pending_id: sealed.find(({ kind }) => kind === "void")?.pending_id ?? null },
      "impossible",
      /not open/,
    ],
    [
      "more than a budget has",
      pending,
      { ...pending, amount_nanos: "60000" },
      "overspent",
      /60000 reserved and spent of 50000/,
    ],
    [
      "other budgets than the reservation's",
      post,
      { ...post, within: [] },
      "impossible",
      /not those of its reservation/,
    ],
    [
      "a reversal of more than there was",
      reversal,
      { ...reversal, amount_nanos: "100000" },
      "impossible",
      /were left/,
    ],
    [
      "a reversal on other accounts",
      reversal,
      { ...reversal, within: [] },
      "impossible",
      /the other way/,
    ],
    [
      "an account that nobody opened",
      pending,
      { ...pending, credit_account_id: OTHER_ACCOUNT },
      "impossible",
      /not in the export/,
    ],
  ];
  for (const [name, from, to, what, detail] of cases) {
    await t.test(name, async () => {
      const { fault } = await verifyText(await resigned(replace(from, to)));
      assert.deepEqual([fault?.what, fault?.transfer_id], [what, to.id]);
      assert.match(fault?.detail ?? "", detail);
    });
  }

  await t.test("one that came in behind the journal", async () => {
    const behind = { ...forge(3, OTHER_HASH), position: null, chain: null };
    const { fault } = await verifyText(await resigned(insertBefore(sealed.length, [behind])));
    assert.deepEqual([fault?.what, fault?.transfer_id], ["inserted", OTHER_ID]);
  });

  await t.test("money of two currencies", async () => {
    const [account] = records.filter((record) => record.type === "account");
    assert.ok(account !== undefined);
    const { fault } = await verifyText(
      await resigned(replace(account, { ...account, currency: "TOK" })),
    );
    assert.equal(fault?.what, "impossible");
    assert.match(fault.detail, /CAD and TOK/);
  });
});

test("balances, checkpoints, the head and the end are not to be changed either", async (t) => {
  const changes: [ExportRecord["type"], string, unknown, LedgerFaultWords][] = [
    ["account", "debits_posted_nanos", "123456", "unbalanced"],
    ["account", "debits_pending_nanos", "123456", "unbalanced"],
    ["account", "credits_posted_nanos", "123456", "unbalanced"],
    ["account", "credits_pending_nanos", "123456", "unbalanced"],
    ["account", "reversed_nanos", "123456", "unbalanced"],
    ["account", "owner", "somebody", "changed"],
    ["account", "kind", "spend2", "changed"],
    ["account", "created_at", OTHER_TIME, "changed"],
    ["checkpoint", "position", 1, "bad_signature"],
    ["checkpoint", "chain", OTHER_HASH, "bad_signature"],
    ["checkpoint", "signed_at", OTHER_TIME, "bad_signature"],
    ["checkpoint", "key_id", createTestSigner(8).keyId, "bad_signature"],
    ["checkpoint", "signature", `${"A".repeat(86)}==`, "bad_signature"],
    ["header", "exported_at", "2026-11-20T00:00:00.000Z", "changed"],
    ["header", "format", "autocode-ledger-export/2", "changed"],
    ["end", "sealed", 1, "inserted"],
    ["end", "sealed", 1_000, "removed"],
    ["end", "accounts", 1, "inserted"],
    ["end", "checkpoints", 4, "removed"],
    ["end", "sha256", OTHER_HASH, "changed"],
    ["end", "key_id", createTestSigner(8).keyId, "bad_signature"],
    ["end", "signature", `${"A".repeat(86)}==`, "bad_signature"],
  ];
  for (const [type, field, value, what] of changes) {
    await t.test(`${type}.${field} to ${String(value).slice(0, 20)}`, async () => {
      for (const record of records.filter((each) => each.type === type)) {
        const changed = { ...record, [field]: value } as ExportRecord;
        const { fault } = await verifyText(textOf(replace(record, changed)));
        assert.equal(fault?.what, what);
      }
    });
  }

  await t.test("a checkpoint away, and one elsewhere", async () => {
    const [first] = records.filter((record) => record.type === "checkpoint");
    assert.ok(first !== undefined);
    assert.equal((await verifyText(textOf(replace(first)))).fault?.what, "removed");
    const later = [...replace(first)];
    later.splice(lineOf(first) + 1, 0, first);
    assert.equal((await verifyText(textOf(later))).fault?.what, "moved");
  });

  await t.test("an account away, or twice, or with another id", async () => {
    const accounts = records.filter((record) => record.type === "account");
    for (const account of accounts.filter(({ id }) => JSON.stringify(sealed).includes(id))) {
      const { fault } = await verifyText(textOf(replace(account)));
      assert.deepEqual([fault?.what, fault?.account_id], ["impossible", account.id]);
      const renamed = await verifyText(textOf(replace(account, { ...account, id: OTHER_ACCOUNT })));
      assert.deepEqual(
        [renamed.fault?.what, renamed.fault?.account_id],
        ["impossible", account.id],
      );
      const twice = await verifyText(textOf(replace(account, account, account)));
      assert.deepEqual([twice.fault?.what, twice.fault?.account_id], ["inserted", account.id]);
    }
  });
});

test("an export that ends early, or holds something else, is not intact", async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat({ max: exported.length - 2 }), async (length) => {
      const { is_intact: isIntact, fault } = await verifyText(exported.slice(0, length));
      assert.equal(isIntact, false);
      assert.ok(["cut_off", "changed"].includes(fault?.what ?? ""), fault?.what);
    }),
    { numRuns: 100 },
  );
  for (const text of [
    "",
    "\n",
    "{}",
    "null\n",
    "[1]\n",
    `{"type":"__proto__"}\n`,
    "a".repeat(3e6),
  ]) {
    assert.equal((await verifyText(text)).is_intact, false);
  }
  assert.equal((await verifyText(`${exported}${exported}`)).is_intact, false);
});

test("one byte of the file, any of them, makes it another", async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat({ max: exported.length - 1 }), async (at) => {
      const bytes = Buffer.from(exported);
      bytes[at] = (bytes[at] ?? 0) ^ 1;
      assert.equal((await verifyText(bytes.toString("latin1"))).is_intact, false);
    }),
    { numRuns: 200 },
  );
});

test("signatures count when they are of a key that was named", async () => {
  const { fingerprint, key_id: keyId } = describeKey(createTestSigner().keyId);
  for (const trusted of [{ trustedKeyIds: [keyId] }, { trustedFingerprints: [fingerprint] }]) {
    const report = await verifyText(exported, trusted);
    assert.deepEqual([report.is_intact, report.is_key_trusted], [true, true]);
  }
  const other = describeKey(createTestSigner(8).keyId);
  const report = await verifyText(exported, { trustedFingerprints: [other.fingerprint] });
  assert.equal(report.fault?.what, "bad_signature");

  // All of it forged, and signed by somebody: as good as its own key, and no better.
  const forged = await resigned(
    replace(sealed[0] as TransferRecord, {
      ...(sealed[0] as TransferRecord),
      note: "forged",
    }),
    createTestSigner(8),
  );
  assert.equal((await verifyText(forged)).is_intact, true);
  assert.equal((await verifyText(forged, { trustedKeyIds: [keyId] })).fault?.what, "bad_signature");
});

type LedgerFaultWords = NonNullable<LedgerReport["fault"]>["what"];

function index() {
  return fc.nat({ max: sealed.length - 1 });
}

function lineOf(record: ExportRecord): number {
  return records.indexOf(record) + 1;
}

function replace(record: ExportRecord, ...others: ExportRecord[]): ExportRecord[] {
  return records.flatMap((each) => (each === record ? others : [each]));
}

/** Before the sealed transfer `at`; before the end when there is none. */
function insertBefore(at: number, others: TransferRecord[]): ExportRecord[] {
  const target = sealed[at] ?? records.at(-1);
  return records.flatMap((each) => (each === target ? [...others, each] : [each]));
}

/** A top-up that nobody made, with the number of the transfer whose place it takes. */
function forge(at: number, chain: string): TransferRecord {
  const [first] = sealed;
  const seq = sealed[at]?.seq ?? 1;
  return { ...(first as TransferRecord), id: OTHER_ID, seq, position: at + 1, chain };
}
