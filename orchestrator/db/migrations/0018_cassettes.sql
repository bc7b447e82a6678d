-- 0018_cassettes: records of trials that were taken elsewhere, and brought here to be replayed.

-- What such a replay is answered by; its trial's replay_of is the trial itself.
create table cassette (
  trial_id text primary key references trial (id),
  -- JSON, as it was brought: jsonb would refuse bytes that bodies may have.
  content text not null check (octet_length(content) between 2 and 268435456),
  created_at timestamptz not null
);
