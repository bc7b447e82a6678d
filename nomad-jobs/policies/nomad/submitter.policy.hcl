# What a person or a pipeline may do who runs experiments as jobs (trials.nomad.hcl), and no more.
#
#   nomad acl policy apply autocode-submitter nomad-jobs/policies/nomad/submitter.policy.hcl

namespace "default" {
  capabilities = ["list-jobs", "parse-job", "read-job", "submit-job", "read-logs", "alloc-lifecycle"]
}

node_pool "*" {
  policy = "read"
}
