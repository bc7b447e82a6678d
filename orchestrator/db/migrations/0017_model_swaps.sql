-- 0017_model_swaps: what it took to give own GPUs to another model, and who was charged for it.

-- A row a model that was loaded because a trial waited for it. It is written in the statement that
-- ends the turn of that trial; the money follows once the trial has a budget, and then it is told.
create table model_swap (
  -- The reservation that pays for it: one swap, one id, charged once.
  transfer_id text primary key check (transfer_id ~ '^transfer_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
  trial_id text not null check (trial_id ~ '^trial_[0-7][0-9a-hjkmnp-tv-z]{25}$'),
  pair text not null check (length(pair) between 1 and 200),
  side text not null check (side in ('normal', 'thinking')),
  model text not null check (length(model) between 1 and 200),
  ended_at timestamptz not null,
  duration_ms bigint not null check (duration_ms >= 0),
  -- Time, times GPUs.
  gpu_ms bigint not null check (gpu_ms >= 0),
  -- What it cost in the currency of the plan; null where the plan has no price.
  cost_nanos bigint check (cost_nanos >= 0),
  currency text check (currency ~ '^[A-Z]{3}$'),
  -- In the currency of the trial's project. Null: not yet.
  charged_nanos bigint check (charged_nanos >= 0),
  -- What nobody pays for, in that currency; null where it cannot be said in it.
  uncharged_nanos bigint check (uncharged_nanos >= 0),
  uncharged_reason text check (length(uncharged_reason) between 1 and 1000),
  told_at timestamptz,
  constraint model_swap_currency check ((cost_nanos is null) = (currency is null)),
  constraint model_swap_told_once_charged check (told_at is null or charged_nanos is not null)
);
create index model_swap_by_trial on model_swap (trial_id);
create index model_swap_untold on model_swap (ended_at) where told_at is null;
