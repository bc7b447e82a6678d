-- 0002_trials: projects, tasks, experiments, trials and what they leave behind.
--
-- A trial is driven by one engine at a time: `lease_until` says until when, and `fence` grows with
-- each new allocation, so that what an older one still says is refused.

create table project (
  id text primary key check (id ~ '^project_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
  name text not null unique check (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
  currency text not null check (currency ~ '^[A-Z]{3}$'),
  time_zone text not null check (length(time_zone) between 1 and 64),
  -- The project's file (autocode.yaml) as it was read and checked.
  config jsonb not null,
  daily_allowance_nanos bigint check (daily_allowance_nanos >= 0),
  created_at timestamptz not null,
  updated_at timestamptz not null
);

create table task (
  id text primary key check (id ~ '^task_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
  project_id text not null references project (id),
  name text not null check (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
  -- Two imports of the same content are one task.
  content_sha256 text not null check (content_sha256 ~ '^[0-9a-f]{64}$'),
  instruction text not null check (length(instruction) between 1 and 100000),
  base_commit text not null check (base_commit ~ '^[0-9a-f]{40,64}$'),
  -- { kind: "command", command } or { kind: "script", path }: contract/worker.ts, VerifySpec.
  test jsonb not null,
  has_hidden_tests boolean not null,
  agent_wall_ms bigint not null check (agent_wall_ms > 0),
  verify_wall_ms bigint not null check (verify_wall_ms > 0),
  source text not null check (length(source) <= 4096),
  created_at timestamptz not null,
  constraint task_content_once unique (project_id, name, content_sha256)
);

create table experiment (
  id text primary key check (id ~ '^experiment_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
  project_id text not null references project (id),
  name text not null check (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
  seed bigint not null check (seed between 0 and 4294967295),
  assignment text not null check (assignment in ('all', 'random')),
  spec jsonb not null,
  created_at timestamptz not null
);

create table trial (
  id text primary key check (id ~ '^trial_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
  project_id text not null references project (id),
  experiment_id text references experiment (id),
  task_id text not null references task (id),
  agent text not null check (length(agent) between 1 and 64),
  pair text not null check (length(pair) between 1 and 64),
  is_scripted boolean not null,
  attempt integer not null check (attempt >= 1),
  seed bigint not null check (seed between 0 and 4294967295),
  priority integer not null default 0,
  limit_nanos bigint not null check (limit_nanos >= 0),
  wall_ms bigint not null check (wall_ms > 0),
  state text not null check (state in (
    'queued', 'admitted', 'placed', 'running', 'verifying',
    'succeeded', 'failed', 'errored', 'paused', 'cancelled'
  )),
  reason text check (length(reason) <= 2000),
  verdict text check (verdict in ('passed', 'failed', 'error')),
  reward double precision,
  flags text[] not null default '{}',
  account_id text references account (id),
  -- The allocation whose word counts; the engine's hold on the trial.
  allocation_id text,
  fence integer not null default 0 check (fence >= 0),
  lease_until timestamptz,
  tries integer not null default 0 check (tries >= 0),
  -- When a retry waits for its backoff.
  not_before timestamptz,
  -- Asked for by a person; the engine acts on it.
  cancel_requested boolean not null default false,
  -- The gateway refused a call for want of money: the engine stops the worker.
  is_budget_exhausted boolean not null default false,
  -- When the worker was first told to stop, so that one that does not obey is ended.
  stop_asked_at timestamptz,
  -- What a resumed allocation needs: { completed_phases, plan_text }.
  resume jsonb,
  agent_report jsonb,
  verify_report jsonb,
  created_at timestamptz not null,
  started_at timestamptz,
  ended_at timestamptz,
  updated_at timestamptz not null,

  constraint trial_ended_has_time check (
    (state in ('succeeded', 'failed', 'errored', 'cancelled')) = (ended_at is not null)
  ),
  constraint trial_verdict_matches_state check (
    (state = 'succeeded') = (verdict is not distinct from 'passed')
    or state = 'cancelled'
  )
);

create index trial_claimable on trial (priority desc, created_at)
  where state in ('queued', 'admitted', 'placed', 'running', 'verifying');
create index trial_by_project on trial (project_id, created_at desc);
create index trial_by_experiment on trial (experiment_id);

create table allocation (
  id text primary key check (id ~ '^allocation_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
  trial_id text not null references trial (id),
  purpose text not null check (purpose in ('agent', 'verify')),
  fence integer not null check (fence >= 0),
  scheduler text not null check (length(scheduler) between 1 and 64),
  enrolment_sha256 bytea unique,
  token_sha256 bytea unique,
  last_cursor bigint not null default 0,
  enrolled_at timestamptz,
  heartbeat_at timestamptz,
  reported_at timestamptz,
  ended_at timestamptz,
  created_at timestamptz not null,
  constraint allocation_purpose_once unique (trial_id, purpose, fence)
);

-- Append-only; `seq` follows the order of commits (appends take one advisory lock), so a reader
-- that resumes after a `seq` misses nothing.
create table event (
  seq bigint generated always as identity primary key,
  project_id text not null references project (id),
  trial_id text not null references trial (id),
  allocation_id text references allocation (id),
  cursor bigint check (cursor >= 1),
  type text not null check (length(type) between 1 and 64),
  data jsonb not null,
  at timestamptz not null,
  constraint event_cursor_once unique (allocation_id, cursor)
);
create index event_by_trial on event (trial_id, seq);

create table artefact (
  trial_id text not null references trial (id),
  allocation_id text not null references allocation (id),
  name text not null check (name ~ '^[a-z0-9][a-z0-9._-]{0,99}$'),
  byte_count bigint not null check (byte_count >= 0),
  updated_at timestamptz not null,
  primary key (allocation_id, name)
);
create index artefact_by_trial on artefact (trial_id);
