-- 0001_ledger: accounts, and the immutable transfers between them.
--
-- A transfer debits one account and credits another by the same amount, so no row can be out of
-- balance. A reservation is a `pending` transfer; exactly one `post` or `void` resolves it, and
-- neither changes it.
--
-- Budgets nest: organisation > project > day > trial. A transfer that debits a trial's budget is
-- a debit of every budget in `within` too (the enclosing ones, outermost first), so that a limit
-- holds at each level. The balances on `account` are sums over `transfer`, kept by the same
-- statement that inserts the transfer (orchestrator/ledger/ledger.ts).
--
-- Amounts are integer nano-units of the account's currency: 1 CAD is 1000000000.

create table account (
  id text primary key check (id ~ '^account_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
  kind text not null check (kind in ('funding', 'budget', 'spend')),
  -- What the account belongs to: "organisation/CAD", "project/<id>", "day/<project>/2026-11-21",
  -- "trial/<id>", … Opening the same account twice opens it once.
  owner text not null check (length(owner) between 1 and 200),
  currency text not null check (currency ~ '^[A-Z]{3}$'),
  must_not_exceed boolean not null,
  debits_pending_nanos bigint not null default 0 check (debits_pending_nanos >= 0),
  debits_posted_nanos bigint not null default 0 check (debits_posted_nanos >= 0),
  credits_pending_nanos bigint not null default 0 check (credits_pending_nanos >= 0),
  credits_posted_nanos bigint not null default 0 check (credits_posted_nanos >= 0),
  created_at timestamptz not null,

  constraint account_owner_once unique (kind, owner),
  -- The product's first promise. Code refuses an overspend before it gets here; this is the pair
  -- of that check, for the day the code is wrong.
  constraint account_never_overspent check (
    not must_not_exceed
    or debits_pending_nanos + debits_posted_nanos <= credits_posted_nanos
  )
);

create table transfer (
  id text primary key check (id ~ '^transfer_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
  kind text not null check (kind in ('direct', 'pending', 'post', 'void')),
  debit_account_id text not null references account (id),
  within text[] not null default '{}',
  credit_account_id text not null references account (id),
  amount_nanos bigint not null check (amount_nanos >= 0),
  pending_id text references transfer (id),
  expires_at timestamptz,
  -- Why, in a word a statement can show: "call", "topup", "allowance", "expired" …
  reason text not null check (length(reason) between 1 and 100),
  created_at timestamptz not null,

  constraint transfer_between_two_accounts check (debit_account_id <> credit_account_id),
  constraint transfer_resolution_names_pending check (
    (kind in ('post', 'void')) = (pending_id is not null)
  ),
  constraint transfer_pending_expires check ((kind = 'pending') = (expires_at is not null))
);

create unique index transfer_resolved_once on transfer (pending_id) where pending_id is not null;
create index transfer_by_debit on transfer (debit_account_id, created_at);
create index transfer_by_credit on transfer (credit_account_id, created_at);
create index transfer_expiring on transfer (expires_at) where kind = 'pending';
create index transfer_by_within on transfer using gin (within);
