# What the job that submits an experiment may read: the secret that trials.nomad.hcl names.
path "secret/data/autocode/trials" {
  capabilities = ["read"]
}
