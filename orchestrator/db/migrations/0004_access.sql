-- 0004_access: who may use the API, what was asked twice, and what waits for a person.

create table api_token (
  id text primary key check (id ~ '^token_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
  token_sha256 bytea not null unique,
  role text not null check (role in ('admin', 'operator', 'viewer')),
  purpose text not null check (purpose in ('cli', 'login_link', 'session')),
  expires_at timestamptz,
  used_at timestamptz,
  revoked_at timestamptz,
  created_at timestamptz not null
);

-- The stored answer of a POST that moved money: a repeat gets the same, another body a refusal.
create table idempotency (
  key text not null check (length(key) between 1 and 200),
  route text not null check (length(route) between 1 and 200),
  request_sha256 bytea not null,
  status integer not null,
  response jsonb not null,
  created_at timestamptz not null,
  primary key (key, route)
);

create table approval (
  id text primary key check (id ~ '^approval_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
  trial_id text not null references trial (id),
  kind text not null check (kind in ('budget')),
  state text not null check (state in ('open', 'granted', 'rejected', 'superseded')),
  -- What a person must know to decide: spent, limit, forecast to finish.
  facts jsonb not null,
  created_at timestamptz not null,
  resolved_at timestamptz
);
create unique index approval_one_open on approval (trial_id, kind) where state = 'open';
