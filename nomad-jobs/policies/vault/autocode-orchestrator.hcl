# What an orchestrator may do in Vault: its own secrets, the installation's signing key, and tokens
# for its trials. It can neither read the private key nor change what this policy says.
# `autocode vault init` applies it; mounts other than secret/ and transit/ are changed here too.

# Values, with versions and check-and-set (KV v2).
path "secret/data/autocode/*" {
  capabilities = ["create", "read", "update", "patch"]
}

path "secret/metadata/autocode/*" {
  capabilities = ["read", "list"]
}

# Signs the journal's checkpoints and enrolment tokens.
path "transit/sign/autocode" {
  capabilities = ["update"]
}

path "transit/verify/autocode" {
  capabilities = ["update"]
}

path "transit/keys/autocode" {
  capabilities = ["read"]
}

# Short-lived tokens of one trial, through a role that fixes their policy.
path "auth/token/create/autocode-trial" {
  capabilities = ["update"]
}

path "auth/token/revoke-accessor" {
  capabilities = ["update"]
}

path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}
