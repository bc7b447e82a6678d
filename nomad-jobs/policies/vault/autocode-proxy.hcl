# What a gateway of its own process may read: the secret that proxy.nomad.hcl puts into its
# environment, and the providers' keys that `autocode secret` keeps. It signs nothing.
path "secret/data/autocode/proxy" {
  capabilities = ["read"]
}

path "secret/data/autocode/provider/*" {
  capabilities = ["read"]
}

path "secret/metadata/autocode/provider/*" {
  capabilities = ["list"]
}

path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}
