/**
 * Keeps the books again from the transfers alone, one at a time and in order: what each account
 * holds, which reservations are open, what was taken back. Pure; the ledger's own rules, written a
 * second time on purpose, so that a fault of the one is seen by the other.
 */
import type {
  AccountRecord,
  LedgerFault,
  LedgerFaultKind,
  TransferRecord,
} from "../contract/ledger.ts";

type Fault = Pick<LedgerFault, "account_id" | "detail"> & { what: LedgerFaultKind };

interface Sums {
  debitsPending: bigint;
  debitsPosted: bigint;
  creditsPending: bigint;
  creditsPosted: bigint;
  reversed: bigint;
}

interface Book extends Sums {
  account: AccountRecord;
  line: number;
}

export interface Replay {
  open(account: AccountRecord, line: number): Fault | null;
  /** Null when the books allow it. */
  apply(transfer: TransferRecord): Fault | null;
  /** The first account whose balances are not the sums of its transfers. */
  imbalance(): (Fault & { line: number }) | null;
  accountCount(): number;
}

/**
 * `reversed`: the transfers that others take back; of these alone the amounts are remembered, so
 * that what is kept grows with the open reservations and not with the history.
 */
export function createReplay(reversed: ReadonlySet<string>): Replay {
  const books = new Map<string, Book>();
  const openReservations = new Map<string, TransferRecord>();
  /** What may still be taken back of each transfer that moved money. */
  const takeable = new Map<string, { left: bigint; transfer: TransferRecord }>();
  return { open, apply, imbalance, accountCount: () => books.size };

  function open(account: AccountRecord, line: number): Fault | null {
    if (books.has(account.id)) {
      return fault("inserted", "A second account has this id", account.id);
    }
    books.set(account.id, { account, line, ...zero() });
    return null;
  }

  function apply(transfer: TransferRecord): Fault | null {
    const { kind, reverses_id: reversesId } = transfer;
    return (
      unknownAccount(transfer) ??
      (kind === "post" || kind === "void"
        ? resolve(transfer)
        : reversesId !== null
          ? reverse(transfer, reversesId)
          : kind === "pending"
            ? reserve(transfer)
            : move(transfer, { posted: BigInt(transfer.amount_nanos) })) ??
      overspent(transfer)
    );
  }

  function unknownAccount(transfer: TransferRecord): Fault | null {
    const { debit_account_id: debit, within, credit_account_id: credit } = transfer;
    const ids = [...within, debit, credit];
    const missing = ids.find((id) => !books.has(id));
    if (missing !== undefined) {
      return fault("impossible", `Its account ${missing} is not in the export`, missing);
    }
    if (new Set(ids).size !== ids.length) return fault("impossible", "It names an account twice");
    const currencies = new Set(ids.map((id) => books.get(id)?.account.currency));
    if (currencies.size === 1) return null;
    return fault("impossible", `Its accounts are in ${[...currencies].sort().join(" and ")}`);
  }

  function reserve(transfer: TransferRecord): Fault | null {
    if (openReservations.has(transfer.id)) {
      return fault("inserted", "The reservation is already open: this is a second one");
    }
    openReservations.set(transfer.id, transfer);
    return move(transfer, { pending: BigInt(transfer.amount_nanos) });
  }

  function resolve(transfer: TransferRecord): Fault | null {
    const pending = openReservations.get(transfer.pending_id ?? "");
    if (pending === undefined) {
      return fault(
        "impossible",
        `It resolves ${transfer.pending_id}, which is not open: resolved before, or never made`,
      );
    }
    openReservations.delete(pending.id);
    const reserved = BigInt(pending.amount_nanos);
    const amount = BigInt(transfer.amount_nanos);
    if (!isSamePath(transfer, pending)) {
      return fault("impossible", "Its accounts are not those of its reservation");
    }
    if (amount > reserved || (transfer.kind === "void" && amount !== reserved)) {
      return fault("impossible", `Its amount is ${amount}, its reservation's ${reserved}`);
    }
    if (transfer.kind === "void") return move(transfer, { pending: -reserved });
    return move(transfer, { pending: -reserved, posted: amount });
  }

  /** The other way round: what enclosed the debit encloses the credit. */
  function reverse(transfer: TransferRecord, reversesId: string): Fault | null {
    const found = takeable.get(reversesId);
    if (found === undefined) {
      return fault("impossible", `It reverses ${reversesId}, which moved nothing before it`);
    }
    const { transfer: first } = found;
    const amount = BigInt(transfer.amount_nanos);
    const isMirrored = isSamePath(
      { ...first, debit_account_id: first.credit_account_id },
      { ...transfer, credit_account_id: first.credit_account_id },
    );
    if (!isMirrored || transfer.credit_account_id !== first.debit_account_id) {
      return fault("impossible", `Its accounts are not those of ${reversesId}, the other way`);
    }
    if (amount > found.left) {
      return fault("impossible", `It reverses ${amount} of the ${found.left} that were left`);
    }
    found.left -= amount;
    return move(transfer, { posted: amount, isReversal: true });
  }

  function move(
    transfer: TransferRecord,
    {
      pending = 0n,
      posted = 0n,
      isReversal = false,
    }: { pending?: bigint; posted?: bigint; isReversal?: boolean },
  ): null {
    const { debit_account_id: debit, within, credit_account_id: credit } = transfer;
    for (const id of isReversal ? [debit] : [...within, debit]) {
      const book = bookOf(id);
      book.debitsPending += pending;
      book.debitsPosted += posted;
    }
    for (const id of isReversal ? [...within, credit] : [credit]) {
      const book = bookOf(id);
      book.creditsPending += pending;
      book.creditsPosted += posted;
    }
    if (isReversal) for (const id of [...within, debit, credit]) bookOf(id).reversed += posted;
    else if (reversed.has(transfer.id) && (transfer.kind === "direct" || transfer.kind === "post"))
      takeable.set(transfer.id, { left: posted, transfer });
    return null;
  }

  function overspent({
    debit_account_id: debit,
    within,
    credit_account_id: credit,
  }: TransferRecord): Fault | null {
    for (const id of [...within, debit, credit]) {
      const { account, debitsPending, debitsPosted, creditsPosted } = bookOf(id);
      const used = debitsPending + debitsPosted;
      if (!account.must_not_exceed || used <= creditsPosted) continue;
      const detail = `${account.owner} has ${used} reserved and spent of ${creditsPosted} funded`;
      return fault("overspent", detail, id);
    }
    return null;
  }

  function imbalance(): (Fault & { line: number }) | null {
    for (const book of books.values()) {
      const { account, line } = book;
      const wrong = [
        unlike("debits_pending", account.debits_pending_nanos, book.debitsPending),
        unlike("debits_posted", account.debits_posted_nanos, book.debitsPosted),
        unlike("credits_pending", account.credits_pending_nanos, book.creditsPending),
        unlike("credits_posted", account.credits_posted_nanos, book.creditsPosted),
        unlike("reversed", account.reversed_nanos, book.reversed),
      ].filter((each) => each !== null);
      if (wrong.length === 0) continue;
      const detail = `${account.kind} of ${account.owner}: ${wrong.join(", ")}`;
      return { ...fault("unbalanced", detail, account.id), line };
    }
    return null;
  }

  function bookOf(id: string): Book {
    const book = books.get(id);
    if (book === undefined) throw new Error(`replay: no account ${id}`);
    return book;
  }
}

function isSamePath(first: TransferRecord, second: TransferRecord): boolean {
  return (
    first.debit_account_id === second.debit_account_id &&
    first.credit_account_id === second.credit_account_id &&
    first.within.join() === second.within.join()
  );
}

function unlike(name: string, saidNanos: string, summed: bigint): string | null {
  if (BigInt(saidNanos) === summed) return null;
  return `${name}_nanos is ${saidNanos}, its transfers sum to ${summed}`;
}

function zero(): Sums {
  return {
    debitsPending: 0n,
    debitsPosted: 0n,
    creditsPending: 0n,
    creditsPosted: 0n,
    reversed: 0n,
  };
}

function fault(what: LedgerFaultKind, detail: string, accountId: string | null = null): Fault {
  return { what, detail, account_id: accountId };
}
