-- 0014_reconciliation: what the engines and providers counted, beside what we charged.

create table reconciliation (
  -- The project's or the installation's day, in UTC.
  day date not null,
  provider text not null check (length(provider) between 1 and 64),
  model text not null check (length(model) between 1 and 200),
  our_input_tokens bigint not null,
  our_output_tokens bigint not null,
  their_input_tokens bigint not null,
  their_output_tokens bigint not null,
  is_matched boolean not null,
  detail text not null check (length(detail) <= 1000),
  compared_at timestamptz not null,
  primary key (day, provider, model)
);

-- Paid flows that no entry of the ledger is for, and settled calls that no flow is recorded of:
-- each an alarm until somebody answers it.
create table unmatched_call (
  id text primary key check (id ~ '^(flow|call)_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
  project_id text,
  trial_id text,
  host text not null check (length(host) <= 500),
  detail text not null check (length(detail) <= 1000),
  found_at timestamptz not null,
  -- When and as what a person, or a later match, settled it.
  answered_at timestamptz,
  answer text check (length(answer) <= 1000)
);
create index unmatched_call_open on unmatched_call (found_at) where answered_at is null;

-- What an engine of ours had counted when it was last asked: its counters begin anew with it.
create table usage_counter (
  provider text not null check (length(provider) between 1 and 64),
  model text not null check (length(model) between 1 and 200),
  -- Since it started, as it says.
  input_tokens bigint not null check (input_tokens >= 0),
  output_tokens bigint not null check (output_tokens >= 0),
  asked_at timestamptz not null,
  primary key (provider, model)
);
-- What it counted on each day, in UTC.
create table usage_count (
  day date not null,
  provider text not null,
  model text not null,
  input_tokens bigint not null check (input_tokens >= 0),
  output_tokens bigint not null check (output_tokens >= 0),
  primary key (day, provider, model)
);
