# What an orchestrator may do in Vault: its own secrets, the installation's signing key, and tokens
# for one purpose. It can neither read the private key nor change what this policy says. With other
# mounts than secret/ and transit/ (AUTOCODE_VAULT_KV, …) the paths here are others too.

# Values, with versions and check-and-set (KV v2).
path "secret/data/autocode/*" {
  capabilities = ["create", "read", "update"]
}

path "secret/metadata/autocode/*" {
  capabilities = ["read", "list", "delete"]
}

# Signs the journal's checkpoints and enrolment tokens; older versions of the key go on verifying.
path "transit/sign/autocode" {
  capabilities = ["update"]
}

path "transit/keys/autocode" {
  capabilities = ["read"]
}

path "transit/keys/autocode/rotate" {
  capabilities = ["update"]
}

# Short-lived tokens that read their own cubbyhole and nothing else.
path "auth/token/create/autocode-scoped" {
  capabilities = ["update"]
}

path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}

path "sys/wrapping/wrap" {
  capabilities = ["update"]
}
