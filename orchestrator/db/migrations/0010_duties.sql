-- 0010_duties: which orchestrator does what there is only one of.
--
-- A duty (a background task, the trial engine's sweep) is led by one process at a time, for as long
-- as it renews its lease; `fence` grows with each new leader. Leases are by the database's clock.

create table duty (
  name text primary key check (length(name) between 1 and 100),
  holder text not null check (holder ~ '^process_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
  fence bigint not null check (fence >= 1),
  lease_until timestamptz not null
);

-- The orchestrators of this database that run, or did until a moment ago.
create table orchestrator (
  id text primary key check (id ~ '^process_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
  host text not null check (length(host) between 1 and 255),
  url text not null check (length(url) between 1 and 2000),
  version text not null check (length(version) between 1 and 64),
  started_at timestamptz not null,
  heartbeat_at timestamptz not null
);
