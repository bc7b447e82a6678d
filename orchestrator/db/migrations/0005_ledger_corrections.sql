-- 0005_ledger_corrections: the order of transfers, what expiry does, reversals, account kinds.
--
-- `seq` is drawn after a transfer's accounts are locked, so of two transfers that touch one account
-- the one that committed first has the lower number; transfers without a common account may differ.
--
-- Nothing is ever deleted: a reversal is a direct transfer the other way that names what it takes
-- back. `reversed_nanos` keeps both sides readable: funded = credits posted - reversed, and
-- spent = debits posted - reversed, while the never-overspent check needs no change.
--
-- Token budgets are accounts in the unit TOK, whose amounts are tokens, not nano-units.

alter table transfer
  add column seq bigint,
  -- What becomes of a reservation whose time is over: `post` where a call may have been forwarded
  -- on it, `void` where it cannot have been.
  add column expires_to text check (expires_to in ('post', 'void')),
  add column reverses_id text references transfer (id),
  -- For people: who allowed it, which rate a conversion used.
  add column note text check (length(note) between 1 and 500);

update transfer set expires_to = 'post' where kind = 'pending';

-- What is there already is numbered as it was made: a resolution after its reservation.
update transfer set seq = ordered.seq
from (
  select id, row_number() over (order by created_at, pending_id is not null, id) as seq
  from transfer
) as ordered
where ordered.id = transfer.id;
alter table transfer alter column seq set not null;
alter table transfer alter column seq add generated always as identity;
select setval(pg_get_serial_sequence('transfer', 'seq'), coalesce(max(seq), 0) + 1, false)
from transfer;

alter table transfer
  add constraint transfer_pending_says_expiry check ((kind = 'pending') = (expires_to is not null)),
  add constraint transfer_reversal_is_direct check (reverses_id is null or kind = 'direct');

create unique index transfer_in_order on transfer (seq);
create index transfer_by_reversed on transfer (reverses_id) where reverses_id is not null;

alter table account drop constraint account_kind_check;
alter table account
  add constraint account_kind_known check (
    kind in ('funding', 'budget', 'spend', 'income', 'exchange', 'rounding')
  ),
  add column reversed_nanos bigint not null default 0 check (reversed_nanos >= 0);
