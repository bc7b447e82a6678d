-- 0007_gateway_metering: what a call needs to be charged again under other prices, and who tried.

alter table call
  add column long_cache_write_tokens bigint not null default 0
    check (long_cache_write_tokens >= 0),
  -- The reservation on the trial's token budget, where it has one.
  add column token_transfer_id text references transfer (id),
  -- Milliseconds of GPU time, times GPUs, as its own model's price counts them.
  add column gpu_ms bigint check (gpu_ms >= 0),
  -- Providers that were tried before the one that answered: [{ provider, status, error }].
  add column attempts jsonb not null default '[]';
