# The orchestrator as a service: API, web UI, engine and, unless there are gateways of their own
# (proxy.nomad.hcl), the gateway.
#
#   nomad var put nomad/jobs/autocode-orchestrator DATABASE_URL=postgres://…
#   nomad job run -var has_database=true -var home=/srv/autocode nomad-jobs/orchestrator.nomad.hcl
#
# Without DATABASE_URL the database is in the home, on one node: name that one, with -var node_name=….
# Nothing is then started elsewhere, where the same job would be an empty installation.
#
# Its Nomad token is its own workload identity: nomad-jobs/policies/nomad/orchestrator.policy.hcl says
# what that may do. Two or more share one database and one home (var.count); one of them leads each
# duty, so that an upgrade may run old and new side by side. Ports are fixed, since workers keep the
# address they were given: a canary needs a node more than count, or canary=0, or ports 0 behind a
# load balancer whose address is api_url.

variable "job_id" {
  type        = string
  default     = "autocode-orchestrator"
  description = "The job's name."
  validation {
    condition     = var.job_id != "" && regex_replace(var.job_id, "^[a-z0-9][a-z0-9-]{0,62}$", "") == ""
    error_message = "The job_id must be 1 to 63 of a-z, 0-9 and -."
  }
}

variable "namespace" {
  type        = string
  default     = "default"
  description = "Nomad's namespace."
  validation {
    condition     = var.namespace != ""
    error_message = "The namespace must not be empty; Nomad's own is \"default\"."
  }
}

variable "datacenters" {
  type        = list(string)
  default     = ["*"]
  description = "Where it may run; \"*\" is everywhere."
  validation {
    condition     = length(var.datacenters) > 0
    error_message = "Name at least one of datacenters, or \"*\"."
  }
}

variable "node_pool" {
  type        = string
  default     = "default"
  description = "The pool of nodes that it runs on."
  validation {
    condition     = var.node_pool != ""
    error_message = "The node_pool must not be empty; Nomad's own are \"default\" and \"all\"."
  }
}

variable "priority" {
  type        = number
  default     = 80
  description = "1 to 100, above that of trials."
  validation {
    condition     = var.priority >= 1 && var.priority <= 100
    error_message = "The priority must be from 1 to 100."
  }
}

variable "driver" {
  type        = string
  default     = "raw_exec"
  description = "raw_exec (a process of the node), exec (chroot, cgroup) or docker."
  validation {
    condition     = contains(["raw_exec", "exec", "docker"], var.driver)
    error_message = "The driver must be raw_exec, exec or docker."
  }
}

variable "checkout" {
  type        = string
  default     = "/opt/autocode"
  description = "Where autocode (with its node_modules) is on each node, or in the image."
  validation {
    condition     = substr(var.checkout, 0, 1) == "/"
    error_message = "The checkout must be an absolute path."
  }
}

variable "node" {
  type        = string
  default     = ""
  description = "The Node 24 to run with; empty: the one that npm put into the checkout."
  validation {
    condition     = var.node == "" || substr(var.node, 0, 1) == "/"
    error_message = "The node must be an absolute path, or empty."
  }
}

variable "image" {
  type        = string
  default     = "autocode/autocode:latest"
  description = "docker: an image that has the checkout."
  validation {
    condition     = var.image != ""
    error_message = "The image must not be empty."
  }
}

variable "has_database" {
  type        = bool
  default     = false
  description = "The secrets have DATABASE_URL: it may run on any node, beside another, if they share the home."
  validation {
    condition     = var.has_database == true || var.has_database == false
    error_message = "The has_database must be true or false."
  }
}

variable "node_name" {
  type        = string
  default     = ""
  description = "The one node that it runs on; needed unless has_database, since the database is there."
  validation {
    condition     = regex_replace(var.node_name, "^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$", "") == ""
    error_message = "The node_name must be a node's name, as nomad node status shows it."
  }
}

variable "count" {
  type        = number
  default     = 1
  description = "How many; more than one needs has_database and a home that they share."
  validation {
    condition     = var.count >= 1 && var.count <= 9 && floor(var.count) == var.count
    error_message = "The count must be a whole number from 1 to 9."
  }
}

variable "canary" {
  type        = number
  default     = 1
  description = "How many of the new are started beside the old in an upgrade; 0: replace in place, as always without has_database."
  validation {
    condition     = var.canary >= 0 && var.canary <= 9 && floor(var.canary) == var.canary
    error_message = "The canary must be a whole number from 0 to 9."
  }
}

variable "home" {
  type        = string
  default     = "/var/lib/autocode"
  description = "The data folder (AUTOCODE_HOME) on each node; with host_volume, where that is mounted."
  validation {
    condition     = substr(var.home, 0, 1) == "/"
    error_message = "The home must be an absolute path."
  }
}

variable "host_volume" {
  type        = string
  default     = ""
  description = "exec, docker: the client's host volume that is the home."
  validation {
    condition     = regex_replace(var.host_volume, "^[a-zA-Z0-9-]{1,128}$", "") == ""
    error_message = "The host_volume must be up to 128 of a-z, A-Z, 0-9 and -."
  }
}

variable "api_port" {
  type        = number
  default     = 7700
  description = "API and web UI; 0: any."
  validation {
    condition     = var.api_port >= 0 && var.api_port <= 65535
    error_message = "The api_port must be from 0 to 65535."
  }
}

variable "gateway_port" {
  type        = number
  default     = 7701
  description = "The gateway; 0: any."
  validation {
    condition     = var.gateway_port >= 0 && var.gateway_port <= 65535
    error_message = "The gateway_port must be from 0 to 65535."
  }
}

variable "api_url" {
  type        = string
  default     = ""
  description = "Where workers and people reach the API, if not at the node's own address: a load balancer's."
  validation {
    condition     = regex_replace(var.api_url, "^https?://[^/ ]+/?$", "") == ""
    error_message = "The api_url must be http:// or https:// with an address and no path."
  }
}

variable "gateway_url" {
  type        = string
  default     = ""
  description = "Where workers reach gateways of their own; empty: the orchestrator runs one."
  validation {
    condition     = regex_replace(var.gateway_url, "^https?://[^/ ]+/?$", "") == ""
    error_message = "The gateway_url must be http:// or https:// with an address and no path."
  }
}

variable "scheduler" {
  type        = string
  default     = "nomad"
  description = "Where trials run: nomad, fleet (workers that joined) or local (as processes beside it)."
  validation {
    condition     = contains(["nomad", "fleet", "local"], var.scheduler)
    error_message = "The scheduler must be nomad, fleet or local."
  }
}

variable "nomad_addr" {
  type        = string
  default     = "http://127.0.0.1:4646"
  description = "Nomad, as the orchestrator reaches it: by default its node's own agent."
  validation {
    condition     = var.nomad_addr != "" && regex_replace(var.nomad_addr, "^https?://[^/ ]+$", "") == ""
    error_message = "The nomad_addr must be http:// or https:// with an address and no path."
  }
}

variable "trial_job_id" {
  type        = string
  default     = "autocode-trial"
  description = "The job that trials are dispatched from (trial.nomad.hcl)."
  validation {
    condition     = var.trial_job_id != "" && regex_replace(var.trial_job_id, "^[a-z0-9][a-z0-9-]{0,62}$", "") == ""
    error_message = "The trial_job_id must be 1 to 63 of a-z, 0-9 and -."
  }
}

variable "env" {
  type        = map(string)
  default     = {}
  description = "More of its environment (docs/operating.md), such as VAULT_ADDR. No secrets: who reads the job reads them."
  validation {
    condition     = length([for name, value in var.env : name if regex_replace(name, "^[A-Z][A-Z0-9_]*$", "") != ""]) == 0
    error_message = "The env must have names of A-Z, 0-9 and _."
  }
}

variable "secrets_from" {
  type        = string
  default     = "variable"
  description = "Where secrets (DATABASE_URL, OPENAI_API_KEY, …) come from: vault (var.vault_path), variable (nomad/jobs/<job_id>), or none."
  validation {
    condition     = contains(["vault", "variable", "none"], var.secrets_from)
    error_message = "The secrets_from must be vault, variable or none."
  }
}

variable "vault_addr" {
  type        = string
  default     = ""
  description = "Vault as the engine of secrets: its address. It logs in with the job's own identity; empty: a sealed file."
  validation {
    condition     = regex_replace(var.vault_addr, "^https?://[^ ]+$", "") == ""
    error_message = "The vault_addr must be http:// or https:// with an address, or empty."
  }
}

variable "vault_path" {
  type        = string
  default     = "secret/data/autocode/orchestrator"
  description = "vault: the KV v2 secret, each key a variable of the environment."
  validation {
    condition     = var.vault_path != "" && regex_replace(var.vault_path, "^[a-z0-9][a-zA-Z0-9_./-]{0,199}$", "") == ""
    error_message = "The vault_path must be a path such as secret/data/autocode/…, without a slash at its begin."
  }
}

variable "vault_role" {
  type        = string
  default     = "autocode-orchestrator"
  description = "vault: the role of the JWT login (nomad-jobs/policies/vault/roles)."
  validation {
    condition     = var.vault_role != "" && regex_replace(var.vault_role, "^[a-z0-9][a-z0-9-]{0,62}$", "") == ""
    error_message = "The vault_role must be 1 to 63 of a-z, 0-9 and -."
  }
}

variable "cpu" {
  type        = number
  default     = 1000
  description = "MHz."
  validation {
    condition     = var.cpu >= 100 && var.cpu <= 1000000
    error_message = "The cpu must be from 100 to 1000000."
  }
}

variable "memory" {
  type        = number
  default     = 2048
  description = "MiB."
  validation {
    condition     = var.memory >= 512 && var.memory <= 1048576
    error_message = "The memory must be from 512 to 1048576."
  }
}

locals {
  node = var.node == "" ? "${var.checkout}/node_modules/.bin/node" : var.node
  args = ["${var.checkout}/orchestrator/main.ts"]

  # Refused in words: a variable's own rule cannot look at another one.
  count     = var.has_database || var.count == 1 ? var.count : parseint("count: more than one needs -var has_database=true", 10)
  node_name = var.has_database || var.node_name != "" ? var.node_name : parseint("name the node, -var node_name=…, or give -var has_database=true", 10)

  canary = var.has_database ? var.canary : 0

  # A process of the host sees the host's folders as they are.
  has_volume = var.host_volume != "" && var.driver != "raw_exec"
}

job "autocode-orchestrator" {
  id          = var.job_id
  name        = var.job_id
  type        = "service"
  namespace   = var.namespace
  datacenters = var.datacenters
  node_pool   = var.node_pool
  priority    = var.priority

  constraint {
    attribute = "$${attr.kernel.name}"
    value     = "linux"
  }

  group "orchestrator" {
    count = local.count

    constraint {
      operator = "distinct_hosts"
      value    = "true"
    }

    dynamic "constraint" {
      for_each = local.node_name == "" ? [] : [local.node_name]
      content {
        attribute = "$${node.unique.name}"
        value     = constraint.value
      }
    }

    # An upgrade starts canaries beside what runs, waits for /readyz, and only then takes the old ones
    # away, one at a time; one that does not become ready is taken back.
    update {
      canary            = local.canary
      max_parallel      = 1
      health_check      = "checks"
      min_healthy_time  = "10s"
      healthy_deadline  = "5m"
      progress_deadline = "10m"
      auto_promote      = local.canary > 0
      auto_revert       = true
    }

    restart {
      attempts = 3
      interval = "5m"
      delay    = "5s"
      mode     = "delay"
    }

    reschedule {
      delay          = "10s"
      delay_function = "exponential"
      max_delay      = "5m"
      attempts       = 0
      unlimited      = var.has_database
    }

    network {
      mode = "host"
      port "api" {
        static = var.api_port
      }
      port "gateway" {
        static = var.gateway_port
      }
    }

    service {
      name     = "autocode-api"
      provider = "nomad"
      port     = "api"

      check {
        name     = "ready"
        type     = "http"
        path     = "/readyz"
        interval = "10s"
        timeout  = "5s"

        check_restart {
          limit = 12
          grace = "60s"
        }
      }
    }

    service {
      name     = "autocode-gateway"
      provider = "nomad"
      port     = "gateway"
    }

    dynamic "volume" {
      for_each = local.has_volume ? [var.host_volume] : []
      labels   = ["home"]
      content {
        type      = "host"
        source    = volume.value
        read_only = false
      }
    }

    task "orchestrator" {
      driver       = var.driver
      kill_signal  = "SIGTERM"
      kill_timeout = "60s"

      dynamic "config" {
        for_each = var.driver == "docker" ? [] : [local.node]
        content {
          command = config.value
          args    = local.args
        }
      }

      dynamic "config" {
        for_each = var.driver == "docker" ? [local.node] : []
        content {
          image        = var.image
          command      = config.value
          args         = local.args
          init         = true
          network_mode = "host"
          cap_drop     = ["all"]
          security_opt = ["no-new-privileges"]
        }
      }

      dynamic "volume_mount" {
        for_each = local.has_volume ? ["home"] : []
        content {
          volume      = volume_mount.value
          destination = var.home
          read_only   = false
        }
      }

      env = merge(
        {
          AUTOCODE_HOME         = var.home
          AUTOCODE_HOST         = "$${NOMAD_IP_api}"
          AUTOCODE_PORT         = "$${NOMAD_PORT_api}"
          AUTOCODE_GATEWAY_PORT = "$${NOMAD_PORT_gateway}"
          AUTOCODE_GATEWAY_URL  = var.gateway_url
          AUTOCODE_API_URL      = var.api_url
          AUTOCODE_SCHEDULER    = var.scheduler
          AUTOCODE_NOMAD_JOB    = var.trial_job_id
          AUTOCODE_EXAMPLE      = "off"
          NOMAD_ADDR            = var.nomad_addr
        },
        # What the secrets say goes before this: without it, it does not begin on an empty database.
        var.has_database ? { DATABASE_URL = "postgres://database-url-is-not-in-the-secrets.invalid/" } : {},
        var.vault_addr == "" ? {} : {
          VAULT_ADDR      = var.vault_addr
          VAULT_JWT_FILE  = "$${NOMAD_SECRETS_DIR}/nomad_autocode.jwt"
          VAULT_AUTH_ROLE = var.vault_role
        },
        var.env,
      )

      # NOMAD_TOKEN: what the job may do is a policy of Nomad's, and no token is written down anywhere.
      identity {
        name = "default"
        env  = true
      }

      # Each key is a variable of the environment; Nomad keeps the file in memory, for this task alone.
      dynamic "template" {
        for_each = var.secrets_from == "variable" ? [var.job_id] : []
        content {
          destination = "$${NOMAD_SECRETS_DIR}/variables.env"
          env         = true
          change_mode = "restart"
          data        = <<-EOT
            {{ with nomadVar "nomad/jobs/${template.value}" }}{{ range .Tuples }}
            {{ .K }}={{ .V | toJSON }}
            {{ end }}{{ end }}
          EOT
        }
      }

      dynamic "template" {
        for_each = var.secrets_from == "vault" ? [var.vault_path] : []
        content {
          destination = "$${NOMAD_SECRETS_DIR}/vault.env"
          env         = true
          change_mode = "restart"
          data        = <<-EOT
            {{ with secret "${template.value}" }}{{ range $key, $value := .Data.data }}
            {{ $key }}={{ $value | toJSON }}
            {{ end }}{{ end }}
          EOT
        }
      }

      dynamic "vault" {
        for_each = var.secrets_from == "vault" ? [var.vault_role] : []
        content {
          role        = vault.value
          env         = false
          change_mode = "noop"
        }
      }

      # What Vault's jwt-nomad login is shown; its role binds the audience, the job and the task.
      dynamic "identity" {
        for_each = var.secrets_from == "vault" ? ["vault_default"] : []
        content {
          name = identity.value
          aud  = ["vault.io"]
          ttl  = "1h"
        }
      }

      # The same login for the engine of secrets, which renews it by this file.
      dynamic "identity" {
        for_each = var.vault_addr == "" ? [] : ["autocode"]
        content {
          name = identity.value
          aud  = ["vault.io"]
          file = true
          ttl  = "1h"
        }
      }

      resources {
        cpu    = var.cpu
        memory = var.memory
      }

      logs {
        max_files     = 5
        max_file_size = 20
      }
    }
  }
}
