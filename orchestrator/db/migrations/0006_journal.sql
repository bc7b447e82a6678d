-- 0006_journal: the hash chain over transfers, and its signed checkpoints.
--
-- A background task appends entries behind the transfers, in the order of `transfer.seq`, once no
-- transaction that may still add a lower number is running. An entry's `chain` is the SHA-256 of
-- the chain before it and of the transfer's content (orchestrator/ledger/journal.ts says which
-- bytes), so a changed, removed, inserted or moved transfer breaks the chain where it stands.

create table journal_entry (
  position bigint primary key check (position >= 1),
  transfer_id text not null unique references transfer (id),
  chain bytea not null check (length(chain) = 32)
);

create table journal_checkpoint (
  position bigint primary key references journal_entry (position),
  chain bytea not null check (length(chain) = 32),
  signed_at timestamptz not null,
  key_id text not null check (length(key_id) between 1 and 200),
  signature bytea not null check (length(signature) between 1 and 1024)
);
