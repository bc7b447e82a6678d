# What a gateway of its own process may read: the secret that proxy.nomad.hcl names.
path "secret/data/autocode/proxy" {
  capabilities = ["read"]
}
