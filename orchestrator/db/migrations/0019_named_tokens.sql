-- 0019_named_tokens: API tokens that an admin makes for a program, by name; they outlive restarts.
--
-- One of them without expires_at is good until it is revoked. A revoked one stays, as the record of
-- who had access and when; its name is free again.

alter table api_token
  drop constraint api_token_purpose_check,
  add constraint api_token_purpose_check
    check (purpose in ('cli', 'login_link', 'session', 'named')),
  add column name text check (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
  add constraint api_token_has_name check ((purpose = 'named') = (name is not null)),
  add constraint api_token_expires check (purpose = 'named' or expires_at is not null);
create unique index api_token_one_by_name on api_token (name) where revoked_at is null;
