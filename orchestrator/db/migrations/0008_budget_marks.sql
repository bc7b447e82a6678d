-- 0008_budget_marks: what happened to budgets, once each, and pauses that end by themselves.

create table budget_event (
  seq bigint generated always as identity primary key,
  account_id text not null references account (id),
  kind text not null check (kind in ('threshold', 'replenished', 'lapsed')),
  -- Of a threshold: 50, 80, 90, 95 or 100.
  percent integer check (percent between 1 and 100),
  -- What had been funded then: a top-up makes the same mark passable again.
  funded_nanos bigint not null check (funded_nanos >= 0),
  spent_nanos bigint not null check (spent_nanos >= 0),
  at timestamptz not null,
  constraint budget_event_percent_of_threshold check ((kind = 'threshold') = (percent is not null))
);
create unique index budget_event_threshold_once
  on budget_event (account_id, percent, funded_nanos) where kind = 'threshold';
create index budget_event_by_account on budget_event (account_id, seq);

-- A provider's quota is used up until a stated time: the worker is stopped, the trial paused, and
-- the engine resumes it then.
alter table trial add column resume_at timestamptz;
alter table trial add constraint trial_resume_at_is_a_pause check (
  resume_at is null or state in ('placed', 'running', 'paused')
);
create index trial_resuming on trial (resume_at) where resume_at is not null;

-- How a person answered: why not, or how much more.
alter table approval
  add column reason text check (length(reason) between 1 and 2000),
  add column topped_up_nanos bigint check (topped_up_nanos >= 0);
create index approval_by_state on approval (state, created_at);
