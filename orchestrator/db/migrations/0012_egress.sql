-- 0012_egress: who asks the egress proxy, and whether all that was recorded arrived.

-- In the writers' order, as 0009_workers says.
lock table project, trial, allocation, approval in access exclusive mode;

-- A trial's own rules: contract/egress.ts, EgressLayer.
alter table trial add column egress jsonb;
-- The trial whose record answers this one: it calls no model and spends nothing.
alter table trial add column replay_of text references trial (id);

-- Rules of egress that a person is asked for.
alter table approval
  drop constraint approval_kind_check,
  add constraint approval_kind_check check (kind in ('budget', 'egress_rule'));

-- An allocation at the proxy: its name there is the allocation's id.
create table egress_session (
  allocation_id text primary key references allocation (id),
  trial_id text not null references trial (id),
  project_id text not null references project (id),
  password_sha256 bytea not null,
  -- Planted in the worker's environment: of no use, and never to be seen leaving.
  canary text not null check (length(canary) between 16 and 200),
  -- Bytes of requests that left, as last written down.
  sent_byte_count bigint not null default 0 check (sent_byte_count >= 0),
  created_at timestamptz not null
);
create index egress_session_by_trial on egress_session (trial_id);

-- A process that records flows. Its records are numbered from 1; `stored` is which of them arrived
-- in the store, so that a gap has a number, and stays visible when retention took the records.
create table traffic_source (
  id text primary key check (id ~ '^process_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
  door text not null check (door in ('egress', 'gateway')),
  engine text not null check (engine in ('embedded', 'mitmproxy', 'gateway', 'worker')),
  host text not null check (length(host) between 1 and 255),
  started_at timestamptz not null,
  last_sequence bigint not null default 0 check (last_sequence >= 0),
  stored int8multirange not null default '{}',
  -- What the store will never take: it lies in a dead-letter file of the host.
  rejected int8multirange not null default '{}',
  spooled_bytes bigint not null default 0 check (spooled_bytes >= 0),
  -- As the source last said so; once it has closed, nothing more comes.
  heard_at timestamptz not null,
  closed_at timestamptz
);
