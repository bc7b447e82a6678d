-- 0009_workers: the hosts that run allocations, and what the fleet scheduler placed on them.
--
-- A worker is a host or a VM. One that runs our host program registers with a join token and
-- heartbeats; a Nomad client is listed from Nomad. Silence is measured by the database's clock.

-- Locks are taken in the order in which whoever writes a trial takes them: a release before this
-- one goes on writing meanwhile, and the other way round each would wait for the other.
lock table task, trial, allocation in access exclusive mode;

create table worker (
  id text primary key check (id ~ '^worker_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
  name text not null unique check (name ~ '^[a-z0-9][a-z0-9.-]{0,62}$'),
  pool text not null check (pool ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  -- Its own token, after it joined.
  token_sha256 bytea not null unique,
  -- contract/workers.ts, Capabilities.
  capabilities jsonb not null,
  slots integer not null check (slots between 1 and 1000),
  is_draining boolean not null default false,
  registered_at timestamptz not null,
  heartbeat_at timestamptz not null,
  -- The last that it said: a sync of the same run that is not later was overtaken on its way.
  run_id text check (length(run_id) <= 64),
  sync_number bigint not null default 0,
  -- When it said goodbye; a worker that comes back registers again under its name.
  left_at timestamptz
);

-- Each time a worker was silent for longer than it may: what its availability is made of.
create table worker_outage (
  worker_id text not null references worker (id),
  started_at timestamptz not null,
  ended_at timestamptz check (ended_at >= started_at),
  primary key (worker_id, started_at)
);
create unique index worker_outage_one_open on worker_outage (worker_id) where ended_at is null;

-- What lets a host join: stored hashed, for one pool, for a time, for so many hosts.
create table join_token (
  id text primary key check (id ~ '^token_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
  token_sha256 bytea not null unique,
  pool text not null check (pool ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  uses_left integer not null check (uses_left >= 0),
  expires_at timestamptz not null,
  created_at timestamptz not null
);

-- What the fleet scheduler was asked to place. No token is in it: a host that takes an allocation
-- is given a new one.
create table placement (
  allocation_id text primary key references allocation (id),
  -- contract/workers.ts, Requirements.
  requirements jsonb not null,
  priority integer not null,
  worker_id text references worker (id),
  state text not null check (state in ('pending', 'running', 'complete', 'failed', 'lost')),
  is_stop_asked boolean not null default false,
  created_at timestamptz not null,
  assigned_at timestamptz,
  ended_at timestamptz,
  constraint placement_ended_has_time check (
    (state in ('complete', 'failed', 'lost')) = (ended_at is not null)
  )
);
create index placement_open on placement (priority desc, created_at) where state = 'pending';
create index placement_by_worker on placement (worker_id) where state in ('pending', 'running');

-- Where it ran, as its scheduler names the host.
alter table allocation add column host text check (length(host) <= 200);
-- What the trial's worker must have: contract/workers.ts, Requirements.
alter table trial add column requirements jsonb not null default '{}';
-- The task's part of that: task.toml, [environment].
alter table task add column requirements jsonb not null default '{}';
