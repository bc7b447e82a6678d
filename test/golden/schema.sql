table account
  id text not null
  kind text not null
  owner text not null
  currency text not null
  must_not_exceed boolean not null
  debits_pending_nanos bigint not null default 0
  debits_posted_nanos bigint not null default 0
  credits_pending_nanos bigint not null default 0
  credits_posted_nanos bigint not null default 0
  created_at timestamp with time zone not null
  reversed_nanos bigint not null default 0
  constraint account_credits_pending_nanos_check CHECK ((credits_pending_nanos >= 0))
  constraint account_credits_posted_nanos_check CHECK ((credits_posted_nanos >= 0))
  constraint account_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text))
  constraint account_debits_pending_nanos_check CHECK ((debits_pending_nanos >= 0))
  constraint account_debits_posted_nanos_check CHECK ((debits_posted_nanos >= 0))
  constraint account_id_check CHECK ((id ~ '^account_[0-7][0-9a-hjkmnp-tv-z]{25}$'::text))
  constraint account_kind_known CHECK ((kind = ANY (ARRAY['funding'::text, 'budget'::text, 'spend'::text, 'income'::text, 'exchange'::text, 'rounding'::text])))
  constraint account_never_overspent CHECK (((NOT must_not_exceed) OR ((debits_pending_nanos + debits_posted_nanos) <= credits_posted_nanos)))
  constraint account_owner_check CHECK (((length(owner) >= 1) AND (length(owner) <= 200)))
  constraint account_owner_once UNIQUE (kind, owner)
  constraint account_pkey PRIMARY KEY (id)
  constraint account_reversed_nanos_check CHECK ((reversed_nanos >= 0))
  CREATE UNIQUE INDEX account_owner_once ON public.account USING btree (kind, owner)
  CREATE UNIQUE INDEX account_pkey ON public.account USING btree (id)

table allocation
  id text not null
  trial_id text not null
  purpose text not null
  fence integer not null
  scheduler text not null
  enrolment_sha256 bytea
  token_sha256 bytea
  last_cursor bigint not null default 0
  enrolled_at timestamp with time zone
  heartbeat_at timestamp with time zone
  reported_at timestamp with time zone
  ended_at timestamp with time zone
  created_at timestamp with time zone not null
  host text
  constraint allocation_enrolment_sha256_key UNIQUE (enrolment_sha256)
  constraint allocation_fence_check CHECK ((fence >= 0))
  constraint allocation_host_check CHECK ((length(host) <= 200))
  constraint allocation_id_check CHECK ((id ~ '^allocation_[0-7][0-9a-hjkmnp-tv-z]{25}$'::text))
  constraint allocation_pkey PRIMARY KEY (id)
  constraint allocation_purpose_check CHECK ((purpose = ANY (ARRAY['agent'::text, 'verify'::text])))
  constraint allocation_purpose_once UNIQUE (trial_id, purpose, fence)
  constraint allocation_scheduler_check CHECK (((length(scheduler) >= 1) AND (length(scheduler) <= 64)))
  constraint allocation_token_sha256_key UNIQUE (token_sha256)
  constraint allocation_trial_id_fkey FOREIGN KEY (trial_id) REFERENCES trial(id)
  CREATE UNIQUE INDEX allocation_enrolment_sha256_key ON public.allocation USING btree (enrolment_sha256)
  CREATE UNIQUE INDEX allocation_pkey ON public.allocation USING btree (id)
  CREATE UNIQUE INDEX allocation_purpose_once ON public.allocation USING btree (trial_id, purpose, fence)
  CREATE UNIQUE INDEX allocation_token_sha256_key ON public.allocation USING btree (token_sha256)

table api_token
  id text not null
  token_sha256 bytea not null
  role text not null
  purpose text not null
  expires_at timestamp with time zone
  used_at timestamp with time zone
  revoked_at timestamp with time zone
  created_at timestamp with time zone not null
  name text
  constraint api_token_expires CHECK (((purpose = 'named'::text) OR (expires_at IS NOT NULL)))
  constraint api_token_has_name CHECK (((purpose = 'named'::text) = (name IS NOT NULL)))
  constraint api_token_id_check CHECK ((id ~ '^token_[0-7][0-9a-hjkmnp-tv-z]{25}$'::text))
  constraint api_token_name_check CHECK ((name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'::text))
  constraint api_token_pkey PRIMARY KEY (id)
  constraint api_token_purpose_check CHECK ((purpose = ANY (ARRAY['cli'::text, 'login_link'::text, 'session'::text, 'named'::text])))
  constraint api_token_role_check CHECK ((role = ANY (ARRAY['admin'::text, 'operator'::text, 'viewer'::text])))
  constraint api_token_token_sha256_key UNIQUE (token_sha256)
  CREATE UNIQUE INDEX api_token_one_by_name ON public.api_token USING btree (name) WHERE (revoked_at IS NULL)
  CREATE UNIQUE INDEX api_token_pkey ON public.api_token USING btree (id)
  CREATE UNIQUE INDEX api_token_token_sha256_key ON public.api_token USING btree (token_sha256)

table approval
  id text not null
  trial_id text not null
  kind text not null
  state text not null
  facts jsonb not null
  created_at timestamp with time zone not null
  resolved_at timestamp with time zone
  reason text
  topped_up_nanos bigint
  constraint approval_id_check CHECK ((id ~ '^approval_[0-7][0-9a-hjkmnp-tv-z]{25}$'::text))
  constraint approval_kind_check CHECK ((kind = ANY (ARRAY['budget'::text, 'egress_rule'::text])))
  constraint approval_pkey PRIMARY KEY (id)
  constraint approval_reason_check CHECK (((length(reason) >= 1) AND (length(reason) <= 2000)))
  constraint approval_state_check CHECK ((state = ANY (ARRAY['open'::text, 'granted'::text, 'rejected'::text, 'superseded'::text])))
  constraint approval_topped_up_nanos_check CHECK ((topped_up_nanos >= 0))
  constraint approval_trial_id_fkey FOREIGN KEY (trial_id) REFERENCES trial(id)
  CREATE INDEX approval_by_state ON public.approval USING btree (state, created_at)
  CREATE UNIQUE INDEX approval_one_open ON public.approval USING btree (trial_id, kind) WHERE (state = 'open'::text)
  CREATE UNIQUE INDEX approval_pkey ON public.approval USING btree (id)

table artefact
  trial_id text not null
  allocation_id text not null
  name text not null
  byte_count bigint not null
  updated_at timestamp with time zone not null
  constraint artefact_allocation_id_fkey FOREIGN KEY (allocation_id) REFERENCES allocation(id)
  constraint artefact_byte_count_check CHECK ((byte_count >= 0))
  constraint artefact_name_check CHECK ((name ~ '^[a-z0-9][a-z0-9._-]{0,99}$'::text))
  constraint artefact_pkey PRIMARY KEY (allocation_id, name)
  constraint artefact_trial_id_fkey FOREIGN KEY (trial_id) REFERENCES trial(id)
  CREATE INDEX artefact_by_trial ON public.artefact USING btree (trial_id)
  CREATE UNIQUE INDEX artefact_pkey ON public.artefact USING btree (allocation_id, name)

table budget_event
  seq bigint not null generated always as identity
  account_id text not null
  kind text not null
  percent integer
  funded_nanos bigint not null
  spent_nanos bigint not null
  at timestamp with time zone not null
  constraint budget_event_account_id_fkey FOREIGN KEY (account_id) REFERENCES account(id)
  constraint budget_event_funded_nanos_check CHECK ((funded_nanos >= 0))
  constraint budget_event_kind_check CHECK ((kind = ANY (ARRAY['threshold'::text, 'replenished'::text, 'lapsed'::text])))
  constraint budget_event_percent_check CHECK (((percent >= 1) AND (percent <= 100)))
  constraint budget_event_percent_of_threshold CHECK (((kind = 'threshold'::text) = (percent IS NOT NULL)))
  constraint budget_event_pkey PRIMARY KEY (seq)
  constraint budget_event_spent_nanos_check CHECK ((spent_nanos >= 0))
  CREATE INDEX budget_event_by_account ON public.budget_event USING btree (account_id, seq)
  CREATE UNIQUE INDEX budget_event_pkey ON public.budget_event USING btree (seq)
  CREATE UNIQUE INDEX budget_event_threshold_once ON public.budget_event USING btree (account_id, percent, funded_nanos) WHERE (kind = 'threshold'::text)

table call
  id text not null
  trial_id text not null
  key_id text not null
  transfer_id text not null
  wire text not null
  side text not null
  model text not null
  model_requested text not null
  provider text not null
  price_version text not null
  reserved_nanos bigint not null
  cost_nanos bigint not null
  input_tokens bigint not null
  cache_read_tokens bigint not null
  cache_write_tokens bigint not null
  output_tokens bigint not null
  reasoning_tokens bigint not null
  is_estimated boolean not null
  status integer not null
  error text
  request_gzip bytea
  response_gzip bytea
  started_at timestamp with time zone not null
  first_byte_at timestamp with time zone
  ended_at timestamp with time zone not null
  long_cache_write_tokens bigint not null default 0
  token_transfer_id text
  gpu_ms bigint
  attempts jsonb not null default '[]'::jsonb
  constraint call_cache_read_tokens_check CHECK ((cache_read_tokens >= 0))
  constraint call_cache_write_tokens_check CHECK ((cache_write_tokens >= 0))
  constraint call_cost_nanos_check CHECK ((cost_nanos >= 0))
  constraint call_error_check CHECK ((length(error) <= 2000))
  constraint call_gpu_ms_check CHECK ((gpu_ms >= 0))
  constraint call_id_check CHECK ((id ~ '^call_[0-7][0-9a-hjkmnp-tv-z]{25}$'::text))
  constraint call_input_tokens_check CHECK ((input_tokens >= 0))
  constraint call_key_id_fkey FOREIGN KEY (key_id) REFERENCES virtual_key(id)
  constraint call_long_cache_write_tokens_check CHECK ((long_cache_write_tokens >= 0))
  constraint call_model_check CHECK (((length(model) >= 1) AND (length(model) <= 200)))
  constraint call_model_requested_check CHECK ((length(model_requested) <= 200))
  constraint call_output_tokens_check CHECK ((output_tokens >= 0))
  constraint call_pkey PRIMARY KEY (id)
  constraint call_price_version_check CHECK (((length(price_version) >= 1) AND (length(price_version) <= 200)))
  constraint call_provider_check CHECK (((length(provider) >= 1) AND (length(provider) <= 200)))
  constraint call_reasoning_tokens_check CHECK ((reasoning_tokens >= 0))
  constraint call_reserved_nanos_check CHECK ((reserved_nanos >= 0))
  constraint call_side_check CHECK ((side = ANY (ARRAY['normal'::text, 'thinking'::text])))
  constraint call_token_transfer_id_fkey FOREIGN KEY (token_transfer_id) REFERENCES transfer(id)
  constraint call_transfer_id_fkey FOREIGN KEY (transfer_id) REFERENCES transfer(id)
  constraint call_trial_id_fkey FOREIGN KEY (trial_id) REFERENCES trial(id)
  constraint call_wire_check CHECK (((length(wire) >= 1) AND (length(wire) <= 64)))
  CREATE INDEX call_by_trial ON public.call USING btree (trial_id, started_at)
  CREATE UNIQUE INDEX call_pkey ON public.call USING btree (id)

table cassette
  trial_id text not null
  content text not null
  created_at timestamp with time zone not null
  constraint cassette_content_check CHECK (((octet_length(content) >= 2) AND (octet_length(content) <= 268435456)))
  constraint cassette_pkey PRIMARY KEY (trial_id)
  constraint cassette_trial_id_fkey FOREIGN KEY (trial_id) REFERENCES trial(id)
  CREATE UNIQUE INDEX cassette_pkey ON public.cassette USING btree (trial_id)

table checkpoint
  id text not null
  trial_id text not null
  allocation_id text not null
  parent_id text
  cause text not null
  phase text
  resume jsonb not null
  manifest_sha256 text not null
  file_count integer not null
  byte_count bigint not null
  new_byte_count bigint not null
  created_at timestamp with time zone not null
  constraint checkpoint_allocation_id_fkey FOREIGN KEY (allocation_id) REFERENCES allocation(id)
  constraint checkpoint_byte_count_check CHECK ((byte_count >= 0))
  constraint checkpoint_cause_check CHECK ((cause = ANY (ARRAY['periodic'::text, 'phase'::text, 'pause'::text, 'end'::text])))
  constraint checkpoint_check CHECK (((new_byte_count >= 0) AND (new_byte_count <= byte_count)))
  constraint checkpoint_file_count_check CHECK ((file_count >= 0))
  constraint checkpoint_id_check CHECK ((id ~ '^checkpoint_[0-7][0-9a-hjkmnp-tv-z]{25}$'::text))
  constraint checkpoint_manifest_sha256_check CHECK ((manifest_sha256 ~ '^[0-9a-f]{64}$'::text))
  constraint checkpoint_parent_id_fkey FOREIGN KEY (parent_id) REFERENCES checkpoint(id)
  constraint checkpoint_phase_check CHECK ((phase = ANY (ARRAY['plan'::text, 'execute'::text])))
  constraint checkpoint_pkey PRIMARY KEY (id)
  constraint checkpoint_trial_id_fkey FOREIGN KEY (trial_id) REFERENCES trial(id)
  CREATE INDEX checkpoint_by_parent ON public.checkpoint USING btree (parent_id) WHERE (parent_id IS NOT NULL)
  CREATE INDEX checkpoint_by_trial ON public.checkpoint USING btree (trial_id, created_at)
  CREATE UNIQUE INDEX checkpoint_pkey ON public.checkpoint USING btree (id)

table checkpoint_blob
  checkpoint_id text not null
  project_id text not null
  sha256 text not null
  constraint checkpoint_blob_checkpoint_id_fkey FOREIGN KEY (checkpoint_id) REFERENCES checkpoint(id) ON DELETE CASCADE
  constraint checkpoint_blob_pkey PRIMARY KEY (checkpoint_id, sha256)
  constraint checkpoint_blob_project_id_fkey FOREIGN KEY (project_id) REFERENCES project(id)
  constraint checkpoint_blob_sha256_check CHECK ((sha256 ~ '^[0-9a-f]{64}$'::text))
  CREATE INDEX checkpoint_blob_by_project ON public.checkpoint_blob USING btree (project_id, sha256)
  CREATE UNIQUE INDEX checkpoint_blob_pkey ON public.checkpoint_blob USING btree (checkpoint_id, sha256)

table duty
  name text not null
  holder text not null
  fence bigint not null
  lease_until timestamp with time zone not null
  constraint duty_fence_check CHECK ((fence >= 1))
  constraint duty_holder_check CHECK ((holder ~ '^process_[0-7][0-9a-hjkmnp-tv-z]{25}$'::text))
  constraint duty_name_check CHECK (((length(name) >= 1) AND (length(name) <= 100)))
  constraint duty_pkey PRIMARY KEY (name)
  CREATE UNIQUE INDEX duty_pkey ON public.duty USING btree (name)

table egress_session
  allocation_id text not null
  trial_id text not null
  project_id text not null
  password_sha256 bytea not null
  canary text not null
  sent_byte_count bigint not null default 0
  created_at timestamp with time zone not null
  constraint egress_session_allocation_id_fkey FOREIGN KEY (allocation_id) REFERENCES allocation(id)
  constraint egress_session_canary_check CHECK (((length(canary) >= 16) AND (length(canary) <= 200)))
  constraint egress_session_pkey PRIMARY KEY (allocation_id)
  constraint egress_session_project_id_fkey FOREIGN KEY (project_id) REFERENCES project(id)
  constraint egress_session_sent_byte_count_check CHECK ((sent_byte_count >= 0))
  constraint egress_session_trial_id_fkey FOREIGN KEY (trial_id) REFERENCES trial(id)
  CREATE INDEX egress_session_by_trial ON public.egress_session USING btree (trial_id)
  CREATE UNIQUE INDEX egress_session_pkey ON public.egress_session USING btree (allocation_id)

table engine_sample
  provider text not null
  model text not null
  at timestamp with time zone not null
  started_at timestamp with time zone
  gpus integer
  running_mean real not null
  running_max integer not null
  waiting_mean real not null
  waiting_max integer not null
  kv_cache_usage_max real not null
  prompt_tokens bigint not null
  cached_tokens bigint not null
  generation_tokens bigint not null
  preemptions bigint not null
  queue_ms bigint not null
  queued_calls bigint not null
  first_token_ms bigint not null
  first_token_calls bigint not null
  constraint engine_sample_gpus_check CHECK ((gpus >= 0))
  constraint engine_sample_model_check CHECK (((length(model) >= 1) AND (length(model) <= 200)))
  constraint engine_sample_pkey PRIMARY KEY (provider, model, at)
  constraint engine_sample_provider_check CHECK (((length(provider) >= 1) AND (length(provider) <= 200)))
  CREATE INDEX engine_sample_by_time ON public.engine_sample USING btree (at)
  CREATE UNIQUE INDEX engine_sample_pkey ON public.engine_sample USING btree (provider, model, at)

table event
  seq bigint not null generated always as identity
  project_id text not null
  trial_id text not null
  allocation_id text
  cursor bigint
  type text not null
  data jsonb not null
  at timestamp with time zone not null
  constraint event_allocation_id_fkey FOREIGN KEY (allocation_id) REFERENCES allocation(id)
  constraint event_cursor_check CHECK ((cursor >= 1))
  constraint event_cursor_once UNIQUE (allocation_id, cursor)
  constraint event_pkey PRIMARY KEY (seq)
  constraint event_project_id_fkey FOREIGN KEY (project_id) REFERENCES project(id)
  constraint event_trial_id_fkey FOREIGN KEY (trial_id) REFERENCES trial(id)
  constraint event_type_check CHECK (((length(type) >= 1) AND (length(type) <= 64)))
  CREATE INDEX event_by_trial ON public.event USING btree (trial_id, seq)
  CREATE UNIQUE INDEX event_cursor_once ON public.event USING btree (allocation_id, cursor)
  CREATE UNIQUE INDEX event_pkey ON public.event USING btree (seq)

table experiment
  id text not null
  project_id text not null
  name text not null
  seed bigint not null
  assignment text not null
  spec jsonb not null
  created_at timestamp with time zone not null
  constraint experiment_assignment_check CHECK ((assignment = ANY (ARRAY['all'::text, 'random'::text])))
  constraint experiment_id_check CHECK ((id ~ '^experiment_[0-7][0-9a-hjkmnp-tv-z]{25}$'::text))
  constraint experiment_name_check CHECK ((name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'::text))
  constraint experiment_pkey PRIMARY KEY (id)
  constraint experiment_project_id_fkey FOREIGN KEY (project_id) REFERENCES project(id)
  constraint experiment_seed_check CHECK (((seed >= 0) AND (seed <= '4294967295'::bigint)))
  CREATE UNIQUE INDEX experiment_pkey ON public.experiment USING btree (id)

table idempotency
  key text not null
  route text not null
  request_sha256 bytea not null
  status integer not null
  response jsonb not null
  created_at timestamp with time zone not null
  constraint idempotency_key_check CHECK (((length(key) >= 1) AND (length(key) <= 200)))
  constraint idempotency_pkey PRIMARY KEY (key, route)
  constraint idempotency_route_check CHECK (((length(route) >= 1) AND (length(route) <= 200)))
  CREATE UNIQUE INDEX idempotency_pkey ON public.idempotency USING btree (key, route)

table join_token
  id text not null
  token_sha256 bytea not null
  pool text not null
  uses_left integer not null
  expires_at timestamp with time zone not null
  created_at timestamp with time zone not null
  constraint join_token_id_check CHECK ((id ~ '^token_[0-7][0-9a-hjkmnp-tv-z]{25}$'::text))
  constraint join_token_pkey PRIMARY KEY (id)
  constraint join_token_pool_check CHECK ((pool ~ '^[a-z0-9][a-z0-9-]{0,62}$'::text))
  constraint join_token_token_sha256_key UNIQUE (token_sha256)
  constraint join_token_uses_left_check CHECK ((uses_left >= 0))
  CREATE UNIQUE INDEX join_token_pkey ON public.join_token USING btree (id)
  CREATE UNIQUE INDEX join_token_token_sha256_key ON public.join_token USING btree (token_sha256)

table journal_checkpoint
  position bigint not null
  chain bytea not null
  signed_at timestamp with time zone not null
  key_id text not null
  signature bytea not null
  constraint journal_checkpoint_chain_check CHECK ((length(chain) = 32))
  constraint journal_checkpoint_key_id_check CHECK (((length(key_id) >= 1) AND (length(key_id) <= 200)))
  constraint journal_checkpoint_pkey PRIMARY KEY ("position")
  constraint journal_checkpoint_position_fkey FOREIGN KEY ("position") REFERENCES journal_entry("position")
  constraint journal_checkpoint_signature_check CHECK (((length(signature) >= 1) AND (length(signature) <= 1024)))
  CREATE UNIQUE INDEX journal_checkpoint_pkey ON public.journal_checkpoint USING btree ("position")

table journal_entry
  position bigint not null
  transfer_id text not null
  chain bytea not null
  constraint journal_entry_chain_check CHECK ((length(chain) = 32))
  constraint journal_entry_pkey PRIMARY KEY ("position")
  constraint journal_entry_position_check CHECK (("position" >= 1))
  constraint journal_entry_transfer_id_fkey FOREIGN KEY (transfer_id) REFERENCES transfer(id)
  constraint journal_entry_transfer_id_key UNIQUE (transfer_id)
  CREATE UNIQUE INDEX journal_entry_pkey ON public.journal_entry USING btree ("position")
  CREATE UNIQUE INDEX journal_entry_transfer_id_key ON public.journal_entry USING btree (transfer_id)

table migration
  version integer not null
  name text not null
  sha256 text not null
  applied_at timestamp with time zone not null
  constraint migration_pkey PRIMARY KEY (version)
  CREATE UNIQUE INDEX migration_pkey ON public.migration USING btree (version)

table model_server
  pair text not null
  side text not null
  model text not null
  machine text not null
  base_url text not null
  plan jsonb not null
  weights_dir text
  accepted_licences text[] not null default '{}'::text[]
  is_wanted boolean not null default true
  is_awake boolean not null default true
  state text not null
  has_served boolean not null default false
  restarts integer not null default 0
  detail text not null
  since timestamp with time zone not null
  not_before timestamp with time zone
  metrics jsonb
  brought_up_at timestamp with time zone not null
  asked_at timestamp with time zone
  asked_last_at timestamp with time zone
  asked_by text
  turn_by text
  constraint model_server_asked_by_check CHECK ((asked_by ~ '^trial_[0-7][0-9a-hjkmnp-tv-z]{25}$'::text))
  constraint model_server_base_url_check CHECK (((length(base_url) >= 1) AND (length(base_url) <= 2000)))
  constraint model_server_detail_check CHECK ((length(detail) <= 8000))
  constraint model_server_machine_check CHECK (((length(machine) >= 1) AND (length(machine) <= 255)))
  constraint model_server_model_check CHECK (((length(model) >= 1) AND (length(model) <= 200)))
  constraint model_server_pair_check CHECK (((length(pair) >= 1) AND (length(pair) <= 200)))
  constraint model_server_pkey PRIMARY KEY (pair, side)
  constraint model_server_restarts_check CHECK ((restarts >= 0))
  constraint model_server_side_check CHECK ((side = ANY (ARRAY['normal'::text, 'thinking'::text])))
  constraint model_server_state_check CHECK ((state = ANY (ARRAY['starting'::text, 'ready'::text, 'sleeping'::text, 'draining'::text, 'failed'::text])))
  constraint model_server_turn_by_check CHECK ((turn_by ~ '^trial_[0-7][0-9a-hjkmnp-tv-z]{25}$'::text))
  constraint model_server_weights_dir_check CHECK (((length(weights_dir) >= 1) AND (length(weights_dir) <= 4096)))
  CREATE UNIQUE INDEX model_server_pkey ON public.model_server USING btree (pair, side)

table model_swap
  transfer_id text not null
  trial_id text not null
  pair text not null
  side text not null
  model text not null
  ended_at timestamp with time zone not null
  duration_ms bigint not null
  gpu_ms bigint not null
  cost_nanos bigint
  currency text
  charged_nanos bigint
  uncharged_nanos bigint
  uncharged_reason text
  told_at timestamp with time zone
  constraint model_swap_charged_nanos_check CHECK ((charged_nanos >= 0))
  constraint model_swap_cost_nanos_check CHECK ((cost_nanos >= 0))
  constraint model_swap_currency CHECK (((cost_nanos IS NULL) = (currency IS NULL)))
  constraint model_swap_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text))
  constraint model_swap_duration_ms_check CHECK ((duration_ms >= 0))
  constraint model_swap_gpu_ms_check CHECK ((gpu_ms >= 0))
  constraint model_swap_model_check CHECK (((length(model) >= 1) AND (length(model) <= 200)))
  constraint model_swap_pair_check CHECK (((length(pair) >= 1) AND (length(pair) <= 200)))
  constraint model_swap_pkey PRIMARY KEY (transfer_id)
  constraint model_swap_side_check CHECK ((side = ANY (ARRAY['normal'::text, 'thinking'::text])))
  constraint model_swap_told_once_charged CHECK (((told_at IS NULL) OR (charged_nanos IS NOT NULL)))
  constraint model_swap_transfer_id_check CHECK ((transfer_id ~ '^transfer_[0-7][0-9a-hjkmnp-tv-z]{25}$'::text))
  constraint model_swap_trial_id_check CHECK ((trial_id ~ '^trial_[0-7][0-9a-hjkmnp-tv-z]{25}$'::text))
  constraint model_swap_uncharged_nanos_check CHECK ((uncharged_nanos >= 0))
  constraint model_swap_uncharged_reason_check CHECK (((length(uncharged_reason) >= 1) AND (length(uncharged_reason) <= 1000)))
  CREATE INDEX model_swap_by_trial ON public.model_swap USING btree (trial_id)
  CREATE UNIQUE INDEX model_swap_pkey ON public.model_swap USING btree (transfer_id)
  CREATE INDEX model_swap_untold ON public.model_swap USING btree (ended_at) WHERE (told_at IS NULL)

table orchestrator
  id text not null
  host text not null
  url text not null
  version text not null
  started_at timestamp with time zone not null
  heartbeat_at timestamp with time zone not null
  constraint orchestrator_host_check CHECK (((length(host) >= 1) AND (length(host) <= 255)))
  constraint orchestrator_id_check CHECK ((id ~ '^process_[0-7][0-9a-hjkmnp-tv-z]{25}$'::text))
  constraint orchestrator_pkey PRIMARY KEY (id)
  constraint orchestrator_url_check CHECK (((length(url) >= 1) AND (length(url) <= 2000)))
  constraint orchestrator_version_check CHECK (((length(version) >= 1) AND (length(version) <= 64)))
  CREATE UNIQUE INDEX orchestrator_pkey ON public.orchestrator USING btree (id)

table own_model_price
  model text not null
  currency text not null
  effective_from timestamp with time zone not null
  terms jsonb not null
  source text not null
  constraint own_model_price_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text))
  constraint own_model_price_model_check CHECK (((length(model) >= 1) AND (length(model) <= 200)))
  constraint own_model_price_pkey PRIMARY KEY (model, currency, effective_from)
  constraint own_model_price_source_check CHECK (((length(source) >= 1) AND (length(source) <= 500)))
  CREATE UNIQUE INDEX own_model_price_pkey ON public.own_model_price USING btree (model, currency, effective_from)

table placement
  allocation_id text not null
  requirements jsonb not null
  priority integer not null
  worker_id text
  state text not null
  is_stop_asked boolean not null default false
  created_at timestamp with time zone not null
  assigned_at timestamp with time zone
  ended_at timestamp with time zone
  constraint placement_allocation_id_fkey FOREIGN KEY (allocation_id) REFERENCES allocation(id)
  constraint placement_ended_has_time CHECK (((state = ANY (ARRAY['complete'::text, 'failed'::text, 'lost'::text])) = (ended_at IS NOT NULL)))
  constraint placement_pkey PRIMARY KEY (allocation_id)
  constraint placement_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'running'::text, 'complete'::text, 'failed'::text, 'lost'::text])))
  constraint placement_worker_id_fkey FOREIGN KEY (worker_id) REFERENCES worker(id)
  CREATE INDEX placement_by_worker ON public.placement USING btree (worker_id) WHERE (state = ANY (ARRAY['pending'::text, 'running'::text]))
  CREATE INDEX placement_open ON public.placement USING btree (priority DESC, created_at) WHERE (state = 'pending'::text)
  CREATE UNIQUE INDEX placement_pkey ON public.placement USING btree (allocation_id)

table project
  id text not null
  name text not null
  currency text not null
  time_zone text not null
  config jsonb not null
  daily_allowance_nanos bigint
  created_at timestamp with time zone not null
  updated_at timestamp with time zone not null
  constraint project_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text))
  constraint project_daily_allowance_nanos_check CHECK ((daily_allowance_nanos >= 0))
  constraint project_id_check CHECK ((id ~ '^project_[0-7][0-9a-hjkmnp-tv-z]{25}$'::text))
  constraint project_name_check CHECK ((name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'::text))
  constraint project_name_key UNIQUE (name)
  constraint project_pkey PRIMARY KEY (id)
  constraint project_time_zone_check CHECK (((length(time_zone) >= 1) AND (length(time_zone) <= 64)))
  CREATE UNIQUE INDEX project_name_key ON public.project USING btree (name)
  CREATE UNIQUE INDEX project_pkey ON public.project USING btree (id)

table reconciliation
  day date not null
  provider text not null
  model text not null
  our_input_tokens bigint not null
  our_output_tokens bigint not null
  their_input_tokens bigint not null
  their_output_tokens bigint not null
  is_matched boolean not null
  detail text not null
  compared_at timestamp with time zone not null
  constraint reconciliation_detail_check CHECK ((length(detail) <= 1000))
  constraint reconciliation_model_check CHECK (((length(model) >= 1) AND (length(model) <= 200)))
  constraint reconciliation_pkey PRIMARY KEY (day, provider, model)
  constraint reconciliation_provider_check CHECK (((length(provider) >= 1) AND (length(provider) <= 200)))
  CREATE UNIQUE INDEX reconciliation_pkey ON public.reconciliation USING btree (day, provider, model)

table task
  id text not null
  project_id text not null
  name text not null
  content_sha256 text not null
  instruction text not null
  base_commit text not null
  test jsonb not null
  has_hidden_tests boolean not null
  agent_wall_ms bigint not null
  verify_wall_ms bigint not null
  source text not null
  created_at timestamp with time zone not null
  requirements jsonb not null default '{}'::jsonb
  constraint task_agent_wall_ms_check CHECK ((agent_wall_ms > 0))
  constraint task_base_commit_check CHECK ((base_commit ~ '^[0-9a-f]{40,64}$'::text))
  constraint task_content_once UNIQUE (project_id, name, content_sha256)
  constraint task_content_sha256_check CHECK ((content_sha256 ~ '^[0-9a-f]{64}$'::text))
  constraint task_id_check CHECK ((id ~ '^task_[0-7][0-9a-hjkmnp-tv-z]{25}$'::text))
  constraint task_instruction_check CHECK (((length(instruction) >= 1) AND (length(instruction) <= 100000)))
  constraint task_name_check CHECK ((name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'::text))
  constraint task_pkey PRIMARY KEY (id)
  constraint task_project_id_fkey FOREIGN KEY (project_id) REFERENCES project(id)
  constraint task_source_check CHECK ((length(source) <= 4096))
  constraint task_verify_wall_ms_check CHECK ((verify_wall_ms > 0))
  CREATE UNIQUE INDEX task_content_once ON public.task USING btree (project_id, name, content_sha256)
  CREATE UNIQUE INDEX task_pkey ON public.task USING btree (id)

table traffic_source
  id text not null
  door text not null
  engine text not null
  host text not null
  started_at timestamp with time zone not null
  last_sequence bigint not null default 0
  stored int8multirange not null default '{}'::int8multirange
  rejected int8multirange not null default '{}'::int8multirange
  spooled_bytes bigint not null default 0
  heard_at timestamp with time zone not null
  closed_at timestamp with time zone
  constraint traffic_source_door_check CHECK ((door = ANY (ARRAY['egress'::text, 'gateway'::text])))
  constraint traffic_source_engine_check CHECK ((engine = ANY (ARRAY['embedded'::text, 'mitmproxy'::text, 'gateway'::text, 'worker'::text])))
  constraint traffic_source_host_check CHECK (((length(host) >= 1) AND (length(host) <= 255)))
  constraint traffic_source_id_check CHECK ((id ~ '^process_[0-7][0-9a-hjkmnp-tv-z]{25}$'::text))
  constraint traffic_source_last_sequence_check CHECK ((last_sequence >= 0))
  constraint traffic_source_pkey PRIMARY KEY (id)
  constraint traffic_source_spooled_bytes_check CHECK ((spooled_bytes >= 0))
  CREATE UNIQUE INDEX traffic_source_pkey ON public.traffic_source USING btree (id)

table transfer
  id text not null
  kind text not null
  debit_account_id text not null
  within text[] not null default '{}'::text[]
  credit_account_id text not null
  amount_nanos bigint not null
  pending_id text
  expires_at timestamp with time zone
  reason text not null
  created_at timestamp with time zone not null
  seq bigint not null generated always as identity
  expires_to text
  reverses_id text
  note text
  constraint transfer_amount_nanos_check CHECK ((amount_nanos >= 0))
  constraint transfer_between_two_accounts CHECK ((debit_account_id <> credit_account_id))
  constraint transfer_credit_account_id_fkey FOREIGN KEY (credit_account_id) REFERENCES account(id)
  constraint transfer_debit_account_id_fkey FOREIGN KEY (debit_account_id) REFERENCES account(id)
  constraint transfer_expires_to_check CHECK ((expires_to = ANY (ARRAY['post'::text, 'void'::text])))
  constraint transfer_id_check CHECK ((id ~ '^transfer_[0-7][0-9a-hjkmnp-tv-z]{25}$'::text))
  constraint transfer_kind_check CHECK ((kind = ANY (ARRAY['direct'::text, 'pending'::text, 'post'::text, 'void'::text])))
  constraint transfer_note_check CHECK (((length(note) >= 1) AND (length(note) <= 500)))
  constraint transfer_pending_expires CHECK (((kind = 'pending'::text) = (expires_at IS NOT NULL)))
  constraint transfer_pending_id_fkey FOREIGN KEY (pending_id) REFERENCES transfer(id)
  constraint transfer_pending_says_expiry CHECK (((kind = 'pending'::text) = (expires_to IS NOT NULL)))
  constraint transfer_pkey PRIMARY KEY (id)
  constraint transfer_reason_check CHECK (((length(reason) >= 1) AND (length(reason) <= 100)))
  constraint transfer_resolution_names_pending CHECK (((kind = ANY (ARRAY['post'::text, 'void'::text])) = (pending_id IS NOT NULL)))
  constraint transfer_reversal_is_direct CHECK (((reverses_id IS NULL) OR (kind = 'direct'::text)))
  constraint transfer_reverses_id_fkey FOREIGN KEY (reverses_id) REFERENCES transfer(id)
  CREATE INDEX transfer_by_credit ON public.transfer USING btree (credit_account_id, created_at)
  CREATE INDEX transfer_by_debit ON public.transfer USING btree (debit_account_id, created_at)
  CREATE INDEX transfer_by_reversed ON public.transfer USING btree (reverses_id) WHERE (reverses_id IS NOT NULL)
  CREATE INDEX transfer_by_within ON public.transfer USING gin (within)
  CREATE INDEX transfer_expiring ON public.transfer USING btree (expires_at) WHERE (kind = 'pending'::text)
  CREATE UNIQUE INDEX transfer_in_order ON public.transfer USING btree (seq)
  CREATE UNIQUE INDEX transfer_pkey ON public.transfer USING btree (id)
  CREATE UNIQUE INDEX transfer_resolved_once ON public.transfer USING btree (pending_id) WHERE (pending_id IS NOT NULL)

table trial
  id text not null
  project_id text not null
  experiment_id text
  task_id text not null
  agent text not null
  pair text not null
  is_scripted boolean not null
  attempt integer not null
  seed bigint not null
  priority integer not null default 0
  limit_nanos bigint not null
  wall_ms bigint not null
  state text not null
  reason text
  verdict text
  reward double precision
  flags text[] not null default '{}'::text[]
  account_id text
  allocation_id text
  fence integer not null default 0
  lease_until timestamp with time zone
  tries integer not null default 0
  not_before timestamp with time zone
  cancel_requested boolean not null default false
  is_budget_exhausted boolean not null default false
  stop_asked_at timestamp with time zone
  resume jsonb
  agent_report jsonb
  verify_report jsonb
  created_at timestamp with time zone not null
  started_at timestamp with time zone
  ended_at timestamp with time zone
  updated_at timestamp with time zone not null
  resume_at timestamp with time zone
  requirements jsonb not null default '{}'::jsonb
  forked_from text
  egress jsonb
  replay_of text
  constraint trial_account_id_fkey FOREIGN KEY (account_id) REFERENCES account(id)
  constraint trial_agent_check CHECK (((length(agent) >= 1) AND (length(agent) <= 64)))
  constraint trial_attempt_check CHECK ((attempt >= 1))
  constraint trial_ended_has_time CHECK (((state = ANY (ARRAY['succeeded'::text, 'failed'::text, 'errored'::text, 'cancelled'::text])) = (ended_at IS NOT NULL)))
  constraint trial_experiment_id_fkey FOREIGN KEY (experiment_id) REFERENCES experiment(id)
  constraint trial_fence_check CHECK ((fence >= 0))
  constraint trial_forked_from_fkey FOREIGN KEY (forked_from) REFERENCES checkpoint(id)
  constraint trial_id_check CHECK ((id ~ '^trial_[0-7][0-9a-hjkmnp-tv-z]{25}$'::text))
  constraint trial_limit_nanos_check CHECK ((limit_nanos >= 0))
  constraint trial_pair_check CHECK (((length(pair) >= 1) AND (length(pair) <= 64)))
  constraint trial_pkey PRIMARY KEY (id)
  constraint trial_project_id_fkey FOREIGN KEY (project_id) REFERENCES project(id)
  constraint trial_reason_check CHECK ((length(reason) <= 2000))
  constraint trial_replay_of_fkey FOREIGN KEY (replay_of) REFERENCES trial(id)
  constraint trial_resume_at_is_a_pause CHECK (((resume_at IS NULL) OR (state = ANY (ARRAY['placed'::text, 'running'::text, 'paused'::text]))))
  constraint trial_seed_check CHECK (((seed >= 0) AND (seed <= '4294967295'::bigint)))
  constraint trial_state_check CHECK ((state = ANY (ARRAY['queued'::text, 'admitted'::text, 'placed'::text, 'running'::text, 'verifying'::text, 'succeeded'::text, 'failed'::text, 'errored'::text, 'paused'::text, 'cancelled'::text])))
  constraint trial_task_id_fkey FOREIGN KEY (task_id) REFERENCES task(id)
  constraint trial_tries_check CHECK ((tries >= 0))
  constraint trial_verdict_check CHECK ((verdict = ANY (ARRAY['passed'::text, 'failed'::text, 'error'::text])))
  constraint trial_verdict_matches_state CHECK ((((state = 'succeeded'::text) = (NOT (verdict IS DISTINCT FROM 'passed'::text))) OR (state = 'cancelled'::text)))
  constraint trial_wall_ms_check CHECK ((wall_ms > 0))
  CREATE INDEX trial_by_experiment ON public.trial USING btree (experiment_id)
  CREATE INDEX trial_by_fork ON public.trial USING btree (forked_from) WHERE (forked_from IS NOT NULL)
  CREATE INDEX trial_by_project ON public.trial USING btree (project_id, created_at DESC)
  CREATE INDEX trial_claimable ON public.trial USING btree (priority DESC, created_at) WHERE (state = ANY (ARRAY['queued'::text, 'admitted'::text, 'placed'::text, 'running'::text, 'verifying'::text]))
  CREATE UNIQUE INDEX trial_pkey ON public.trial USING btree (id)
  CREATE INDEX trial_resuming ON public.trial USING btree (resume_at) WHERE (resume_at IS NOT NULL)

table unmatched_call
  id text not null
  project_id text
  trial_id text
  host text not null
  detail text not null
  found_at timestamp with time zone not null
  answered_at timestamp with time zone
  answer text
  constraint unmatched_call_answer_check CHECK ((length(answer) <= 1000))
  constraint unmatched_call_detail_check CHECK ((length(detail) <= 1000))
  constraint unmatched_call_host_check CHECK ((length(host) <= 500))
  constraint unmatched_call_id_check CHECK ((id ~ '^(flow|call)_[0-7][0-9a-hjkmnp-tv-z]{25}$'::text))
  constraint unmatched_call_pkey PRIMARY KEY (id)
  CREATE INDEX unmatched_call_open ON public.unmatched_call USING btree (found_at) WHERE (answered_at IS NULL)
  CREATE UNIQUE INDEX unmatched_call_pkey ON public.unmatched_call USING btree (id)

table usage_count
  day date not null
  provider text not null
  model text not null
  input_tokens bigint not null
  output_tokens bigint not null
  constraint usage_count_input_tokens_check CHECK ((input_tokens >= 0))
  constraint usage_count_output_tokens_check CHECK ((output_tokens >= 0))
  constraint usage_count_pkey PRIMARY KEY (day, provider, model)
  CREATE UNIQUE INDEX usage_count_pkey ON public.usage_count USING btree (day, provider, model)

table usage_counter
  provider text not null
  model text not null
  input_tokens bigint not null
  output_tokens bigint not null
  asked_at timestamp with time zone not null
  started_at timestamp with time zone
  constraint usage_counter_input_tokens_check CHECK ((input_tokens >= 0))
  constraint usage_counter_model_check CHECK (((length(model) >= 1) AND (length(model) <= 200)))
  constraint usage_counter_output_tokens_check CHECK ((output_tokens >= 0))
  constraint usage_counter_pkey PRIMARY KEY (provider, model)
  constraint usage_counter_provider_check CHECK (((length(provider) >= 1) AND (length(provider) <= 200)))
  CREATE UNIQUE INDEX usage_counter_pkey ON public.usage_counter USING btree (provider, model)

table virtual_key
  id text not null
  trial_id text not null
  token_sha256 bytea not null
  grant jsonb not null
  expires_at timestamp with time zone not null
  revoked_at timestamp with time zone
  created_at timestamp with time zone not null
  constraint virtual_key_id_check CHECK ((id ~ '^key_[0-7][0-9a-hjkmnp-tv-z]{25}$'::text))
  constraint virtual_key_pkey PRIMARY KEY (id)
  constraint virtual_key_token_sha256_key UNIQUE (token_sha256)
  constraint virtual_key_trial_id_fkey FOREIGN KEY (trial_id) REFERENCES trial(id)
  CREATE INDEX virtual_key_by_trial ON public.virtual_key USING btree (trial_id)
  CREATE UNIQUE INDEX virtual_key_pkey ON public.virtual_key USING btree (id)
  CREATE UNIQUE INDEX virtual_key_token_sha256_key ON public.virtual_key USING btree (token_sha256)

table worker
  id text not null
  name text not null
  pool text not null
  token_sha256 bytea not null
  capabilities jsonb not null
  slots integer not null
  is_draining boolean not null default false
  registered_at timestamp with time zone not null
  heartbeat_at timestamp with time zone not null
  run_id text
  sync_number bigint not null default 0
  left_at timestamp with time zone
  constraint worker_id_check CHECK ((id ~ '^worker_[0-7][0-9a-hjkmnp-tv-z]{25}$'::text))
  constraint worker_name_check CHECK ((name ~ '^[a-z0-9][a-z0-9.-]{0,62}$'::text))
  constraint worker_name_key UNIQUE (name)
  constraint worker_pkey PRIMARY KEY (id)
  constraint worker_pool_check CHECK ((pool ~ '^[a-z0-9][a-z0-9-]{0,62}$'::text))
  constraint worker_run_id_check CHECK ((length(run_id) <= 64))
  constraint worker_slots_check CHECK (((slots >= 1) AND (slots <= 1000)))
  constraint worker_token_sha256_key UNIQUE (token_sha256)
  CREATE UNIQUE INDEX worker_name_key ON public.worker USING btree (name)
  CREATE UNIQUE INDEX worker_pkey ON public.worker USING btree (id)
  CREATE UNIQUE INDEX worker_token_sha256_key ON public.worker USING btree (token_sha256)

table worker_outage
  worker_id text not null
  started_at timestamp with time zone not null
  ended_at timestamp with time zone
  constraint worker_outage_check CHECK ((ended_at >= started_at))
  constraint worker_outage_pkey PRIMARY KEY (worker_id, started_at)
  constraint worker_outage_worker_id_fkey FOREIGN KEY (worker_id) REFERENCES worker(id)
  CREATE UNIQUE INDEX worker_outage_one_open ON public.worker_outage USING btree (worker_id) WHERE (ended_at IS NULL)
  CREATE UNIQUE INDEX worker_outage_pkey ON public.worker_outage USING btree (worker_id, started_at)
