-- 0013_flows: the embedded store of flow records, a partition for each day.
--
-- A record's three classes of fields lie in three tables, so that retention takes one of them away
-- without touching the others. No row references another: records outlive what they tell of.

create table flow (
  id text not null check (id ~ '^flow_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
  started_at timestamptz not null,
  source_id text not null,
  sequence bigint not null check (sequence >= 1),
  project_id text,
  trial_id text,
  agent text,
  door text not null,
  kind text not null,
  method text,
  host text not null,
  path text,
  status integer,
  action text not null,
  reason text not null,
  sent_bytes bigint not null,
  received_bytes bigint not null,
  is_error boolean not null,
  -- contract/flows.ts, FlowRecord, without headers, bodies and messages.
  meta jsonb not null,
  primary key (started_at, id)
) partition by range (started_at);
create index flow_by_project on flow (project_id, started_at desc, id desc);
create index flow_by_trial on flow (trial_id, started_at desc, id desc);
create index flow_by_host on flow (host, started_at desc);
create index flow_by_source on flow (source_id);

create table flow_headers (
  id text not null,
  started_at timestamptz not null,
  project_id text,
  byte_count bigint not null,
  headers jsonb not null,
  primary key (started_at, id)
) partition by range (started_at);

create table flow_body (
  id text not null,
  started_at timestamptz not null,
  project_id text,
  byte_count bigint not null,
  bodies jsonb not null,
  primary key (started_at, id)
) partition by range (started_at);
