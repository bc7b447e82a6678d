-- 0013_flows: the embedded store of flow records, a partition for each day (db/partitions.ts).
--
-- A record's three classes of fields lie in three tables, so that retention takes one of them away
-- without touching the others. No row references another: records outlive what they tell of.
-- What passed in LLM calls is here too: call.request_gzip and call.response_gzip are written no
-- more from this release on, are read for older calls, and go in the release after the next.

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
  -- Looked through for text.
  url text not null,
  -- contract/flows.ts, FlowRecord, without headers, bodies and messages.
  meta jsonb not null,
  primary key (started_at, id)
) partition by range (started_at);
create index flow_by_id on flow (id);
create index flow_by_project on flow (project_id, started_at desc, id desc);
create index flow_by_trial on flow (trial_id, started_at desc, id desc);
create index flow_by_host on flow (host, started_at desc);
create index flow_by_source on flow (source_id, sequence);

-- Each direction's list as JSON; as text, because JSON in it may hold what jsonb refuses (U+0000).
create table flow_headers (
  id text not null,
  started_at timestamptz not null,
  project_id text,
  byte_count bigint not null,
  request text,
  response text,
  primary key (started_at, id)
) partition by range (started_at);
create index flow_headers_by_project on flow_headers (project_id, started_at) include (byte_count);

-- Contents in the order of `facts`, a line each, escaped as in JSON; texts apart from base64, so
-- that a search reads texts alone.
create table flow_body (
  id text not null,
  started_at timestamptz not null,
  project_id text,
  byte_count bigint not null,
  facts text not null,
  texts text not null,
  binaries text not null,
  primary key (started_at, id)
) partition by range (started_at);
create index flow_body_by_project on flow_body (project_id, started_at) include (byte_count);
