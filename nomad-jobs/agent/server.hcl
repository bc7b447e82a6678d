# A Nomad server: /etc/nomad.d/server.hcl, beside the package's own nomad.hcl. Three or five of them.

data_dir  = "/opt/nomad/data"
bind_addr = "0.0.0.0"

server {
  enabled          = true
  bootstrap_expect = 3

  server_join {
    retry_join = ["10.0.0.2", "10.0.0.3", "10.0.0.4"]
  }
}

acl {
  enabled = true
}

# Jobs log in to Vault with their workload identity; the roles are nomad-jobs/policies/vault/roles.
vault {
  enabled               = true
  address               = "https://vault.example.org:8200"
  jwt_auth_backend_path = "jwt-nomad"
}
