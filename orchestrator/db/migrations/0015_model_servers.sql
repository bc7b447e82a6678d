-- 0015_model_servers: the engines that should serve, how they are, and what their tokens cost.

-- One row an engine. A pair that was brought up has both; a row goes when its engine has ended.
create table model_server (
  pair text not null check (length(pair) between 1 and 200),
  side text not null check (side in ('normal', 'thinking')),
  model text not null check (length(model) between 1 and 200),
  -- The host whose orchestrators start it, look after it and end it.
  machine text not null check (length(machine) between 1 and 255),
  base_url text not null check (length(base_url) between 1 and 2000),
  plan jsonb not null,
  weights_dir text check (length(weights_dir) between 1 and 4096),
  accepted_licences text[] not null default '{}',
  -- Brought down: it ends what it is answering, then it ends.
  is_wanted boolean not null default true,
  -- Whose turn it is on GPUs that do not hold all that is wanted.
  is_awake boolean not null default true,
  state text not null
    check (state in ('starting', 'ready', 'sleeping', 'draining', 'failed')),
  -- It answered once since it was brought up: an end after that is a crash.
  has_served boolean not null default false,
  restarts integer not null default 0 check (restarts >= 0),
  detail text not null check (length(detail) <= 8000),
  since timestamptz not null,
  not_before timestamptz,
  metrics jsonb,
  brought_up_at timestamptz not null,
  -- The first call since it was last awake that had to wait for it, and the last.
  asked_at timestamptz,
  asked_last_at timestamptz,
  asked_by text check (asked_by ~ '^trial_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
  -- Whose call or place in line it is awake for: the swap is told of there, with its cost.
  turn_by text check (turn_by ~ '^trial_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
  primary key (pair, side)
);

-- A price that a plan led to, beside those of models/prices.yaml. Rows are added, never changed.
create table own_model_price (
  model text not null check (length(model) between 1 and 200),
  currency text not null check (currency ~ '^[A-Z]{3}$'),
  effective_from timestamptz not null,
  terms jsonb not null,
  source text not null check (length(source) between 1 and 500),
  primary key (model, currency, effective_from)
);
