# What the orchestrator may do in Nomad: register and dispatch trials, follow them, and drain nodes.
#
#   nomad acl policy apply -namespace default -job autocode-orchestrator \
#     autocode-orchestrator nomad-jobs/policies/nomad/orchestrator.policy.hcl
#
# Applied so, the job's workload identity has it and no token exists. An orchestrator outside Nomad
# is given one: nomad acl token create -name=autocode -policy=autocode-orchestrator -type=client

namespace "default" {
  capabilities = ["list-jobs", "read-job", "submit-job", "dispatch-job", "read-logs"]
}

# Nodes, what they have, and their drain.
node {
  policy = "write"
}

# Nomad's version, for `autocode doctor`.
agent {
  policy = "read"
}

node_pool "*" {
  policy = "read"
}

# A trial's job may mount the checkout.
host_volume "*" {
  policy = "read"
}
