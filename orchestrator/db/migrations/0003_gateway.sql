-- 0003_gateway: virtual keys and the calls made with them.
--
-- A virtual key is worth nothing outside its trial: it is stored hashed, names the accounts it
-- may spend from and the models it may use, expires, and is revoked when the trial ends.

create table virtual_key (
  id text primary key check (id ~ '^key_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
  trial_id text not null references trial (id),
  token_sha256 bytea not null unique,
  -- orchestrator/keys/keys.ts, Grant: accounts, models with their prices, budget-stop status.
  "grant" jsonb not null,
  expires_at timestamptz not null,
  revoked_at timestamptz,
  created_at timestamptz not null
);
create index virtual_key_by_trial on virtual_key (trial_id);

-- One row a call, written in the transaction that settles it.
create table call (
  id text primary key check (id ~ '^call_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
  trial_id text not null references trial (id),
  key_id text not null references virtual_key (id),
  transfer_id text not null references transfer (id),
  wire text not null check (length(wire) between 1 and 64),
  side text not null check (side in ('normal', 'thinking')),
  model text not null check (length(model) between 1 and 200),
  model_requested text not null check (length(model_requested) <= 200),
  provider text not null check (length(provider) between 1 and 64),
  price_version text not null check (length(price_version) between 1 and 200),
  reserved_nanos bigint not null check (reserved_nanos >= 0),
  cost_nanos bigint not null check (cost_nanos >= 0),
  input_tokens bigint not null check (input_tokens >= 0),
  cache_read_tokens bigint not null check (cache_read_tokens >= 0),
  cache_write_tokens bigint not null check (cache_write_tokens >= 0),
  output_tokens bigint not null check (output_tokens >= 0),
  reasoning_tokens bigint not null check (reasoning_tokens >= 0),
  is_estimated boolean not null,
  status integer not null,
  error text check (length(error) <= 2000),
  -- What passed, gzip: the trajectory is built from these. Absent when larger than the cap.
  request_gzip bytea,
  response_gzip bytea,
  started_at timestamptz not null,
  first_byte_at timestamptz,
  ended_at timestamptz not null
);
create index call_by_trial on call (trial_id, started_at);
