-- 0011_checkpoints: what a trial had done at a moment, so that it, or a fork of it, goes on there.
--
-- Checkpoints form a tree: each names the one it grew from, over trials too. The files are content
-- addressed under the project's `checkpoints` folder; a checkpoint names its manifest by its hash.

-- In the writers' order, as 0009_workers says.
lock table project, trial, allocation in access exclusive mode;

create table checkpoint (
  id text primary key check (id ~ '^checkpoint_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
  trial_id text not null references trial (id),
  allocation_id text not null references allocation (id),
  parent_id text references checkpoint (id),
  cause text not null check (cause in ('periodic', 'phase', 'pause', 'end')),
  -- The phase that it was taken in, or after.
  phase text check (phase in ('plan', 'execute')),
  -- What a worker needs to go on: rows.ts, ResumePoint.
  resume jsonb not null,
  manifest_sha256 text not null check (manifest_sha256 ~ '^[0-9a-f]{64}$'),
  -- Of the work tree, deleted ones too; the CLI's session is not counted.
  file_count integer not null check (file_count >= 0),
  -- Of all contents, the session's too; the same one is counted wherever it stands.
  byte_count bigint not null check (byte_count >= 0),
  -- Of these, what no earlier checkpoint of the project had.
  new_byte_count bigint not null check (new_byte_count between 0 and byte_count),
  created_at timestamptz not null
);
create index checkpoint_by_trial on checkpoint (trial_id, created_at);
create index checkpoint_by_parent on checkpoint (parent_id) where parent_id is not null;

-- The contents that a checkpoint needs: what none needs any more is collected.
create table checkpoint_blob (
  checkpoint_id text not null references checkpoint (id) on delete cascade,
  project_id text not null references project (id),
  sha256 text not null check (sha256 ~ '^[0-9a-f]{64}$'),
  primary key (checkpoint_id, sha256)
);
create index checkpoint_blob_by_project on checkpoint_blob (project_id, sha256);

-- Where a fork began.
alter table trial add column forked_from text references checkpoint (id);
create index trial_by_fork on trial (forked_from) where forked_from is not null;
