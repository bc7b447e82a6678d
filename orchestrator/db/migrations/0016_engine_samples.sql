-- 0016_engine_samples: what engines said of themselves, and longer names of providers.

-- A provider that we start is served/<pair>/<side>, a project's own one is <project>/<pair>-<side>:
-- both are longer than 64 where a pair's name is.
alter table call
  drop constraint call_provider_check,
  add constraint call_provider_check check (length(provider) between 1 and 200);
alter table reconciliation
  drop constraint reconciliation_provider_check,
  add constraint reconciliation_provider_check check (length(provider) between 1 and 200);
alter table usage_counter
  drop constraint usage_counter_provider_check,
  add constraint usage_counter_provider_check check (length(provider) between 1 and 200),
  -- When the engine started that counted; null where nobody can say. Another start, other counters.
  add column started_at timestamptz;

-- An engine's load since the row before, and its counters as they then were. Rows are kept for some
-- weeks; trials are shown what their engines did meanwhile by them.
create table engine_sample (
  provider text not null check (length(provider) between 1 and 200),
  -- As the engine names it.
  model text not null check (length(model) between 1 and 200),
  at timestamptz not null,
  -- As in usage_counter.
  started_at timestamptz,
  -- GPUs that it runs on, where it is ours.
  gpus integer check (gpus >= 0),
  running_mean real not null,
  running_max integer not null,
  waiting_mean real not null,
  waiting_max integer not null,
  -- Of 0 to 1: the fullest that its cache was.
  kv_cache_usage_max real not null,
  -- Since it started: prompt tokens with those that lay in its cache.
  prompt_tokens bigint not null,
  cached_tokens bigint not null,
  generation_tokens bigint not null,
  preemptions bigint not null,
  -- Sums over the calls that it has begun, and how many those are.
  queue_ms bigint not null,
  queued_calls bigint not null,
  first_token_ms bigint not null,
  first_token_calls bigint not null,
  primary key (provider, model, at)
);
create index engine_sample_by_time on engine_sample (at);
