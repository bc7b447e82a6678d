-- 0011_checkpoints: what a trial had done at a moment, so that it, or a fork of it, goes on there.
--
-- Checkpoints form a tree: each names the one it grew from, over trials too. The files are content
-- addressed under the project's `checkpoints` folder; a checkpoint names its manifest by its hash.

create table checkpoint (
  id text primary key check (id ~ '^checkpoint_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
  trial_id text not null references trial (id),
  allocation_id text not null references allocation (id),
  parent_id text references checkpoint (id),
  cause text not null check (cause in ('periodic', 'phase', 'pause', 'end')),
  -- What a worker needs to go on: rows.ts, ResumePoint.
  resume jsonb not null,
  manifest_sha256 text not null check (manifest_sha256 ~ '^[0-9a-f]{64}$'),
  byte_count bigint not null check (byte_count >= 0),
  -- Of these, what no earlier checkpoint of the project had.
  new_byte_count bigint not null check (new_byte_count between 0 and byte_count),
  created_at timestamptz not null
);
create index checkpoint_by_trial on checkpoint (trial_id, created_at);
create index checkpoint_by_parent on checkpoint (parent_id) where parent_id is not null;

-- Where a fork began.
alter table trial add column forked_from text references checkpoint (id);
