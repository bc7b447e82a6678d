# The metering proxy (proxy/gateway) as a service of its own: as many as you like on one database.
#
#   nomad var put nomad/jobs/autocode-proxy DATABASE_URL=postgres://… OPENAI_API_KEY=…
#   nomad job run -var count=2 nomad-jobs/proxy.nomad.hcl
#   nomad job run -var gateway_url=http://10.0.0.7:7801 … nomad-jobs/orchestrator.nomad.hcl
#
# Workers keep the address they were given, so the port is fixed: one on a node, and a canary needs a
# node more than count. A stopped one takes no new call and lets running ones end (grace).

variable "job_id" {
  type        = string
  default     = "autocode-proxy"
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

variable "count" {
  type        = number
  default     = 1
  description = "How many, each on a node of its own."
  validation {
    condition     = var.count >= 1 && var.count <= 99 && floor(var.count) == var.count
    error_message = "The count must be a whole number from 1 to 99."
  }
}

variable "canary" {
  type        = number
  default     = 1
  description = "How many of the new are started beside the old in an upgrade; 0: replace in place."
  validation {
    condition     = var.canary >= 0 && var.canary <= 99 && floor(var.canary) == var.canary
    error_message = "The canary must be a whole number from 0 to 99."
  }
}

variable "gateway_port" {
  type        = number
  default     = 7801
  description = "Where workers call it."
  validation {
    condition     = var.gateway_port >= 1 && var.gateway_port <= 65535
    error_message = "The gateway_port must be from 1 to 65535."
  }
}

variable "metrics_port" {
  type        = number
  default     = 7802
  description = "Metrics and /readyz, on the node's loopback alone."
  validation {
    condition     = var.metrics_port >= 1 && var.metrics_port <= 65535
    error_message = "The metrics_port must be from 1 to 65535."
  }
}

variable "grace_s" {
  type        = number
  default     = 25
  description = "Seconds that running calls may go on after a stop; the client's max_kill_timeout must be 5 more."
  validation {
    condition     = var.grace_s >= 1 && var.grace_s <= 3600
    error_message = "The grace_s must be from 1 to 3600."
  }
}

variable "env" {
  type        = map(string)
  default     = {}
  description = "More of its environment (docs/operating.md). No secrets: who reads the job reads them."
  validation {
    condition     = length([for name, value in var.env : name if regex_replace(name, "^[A-Z][A-Z0-9_]*$", "") != ""]) == 0
    error_message = "The env must have names of A-Z, 0-9 and _."
  }
}

variable "secrets_from" {
  type        = string
  default     = "variable"
  description = "Where secrets (DATABASE_URL, providers' keys) come from: vault (var.vault_path), variable (nomad/jobs/<job_id>), or none."
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
  default     = "secret/data/autocode/proxy"
  description = "vault: the KV v2 secret, each key a variable of the environment."
  validation {
    condition     = var.vault_path != "" && regex_replace(var.vault_path, "^[a-z0-9][a-zA-Z0-9_./-]{0,199}$", "") == ""
    error_message = "The vault_path must be a path such as secret/data/autocode/…, without a slash at its begin."
  }
}

variable "vault_role" {
  type        = string
  default     = "autocode-proxy"
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
  default     = 512
  description = "MiB."
  validation {
    condition     = var.memory >= 128 && var.memory <= 1048576
    error_message = "The memory must be from 128 to 1048576."
  }
}

locals {
  node = var.node == "" ? "${var.checkout}/node_modules/.bin/node" : var.node
  args = ["${var.checkout}/proxy/gateway/main.ts"]
}

job "autocode-proxy" {
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

  group "gateway" {
    count = var.count

    constraint {
      operator = "distinct_hosts"
      value    = "true"
    }

    # An upgrade starts canaries beside what runs, waits for /readyz, and only then takes the old ones
    # away, one at a time; one that does not become ready is taken back.
    update {
      canary            = var.canary
      max_parallel      = 1
      health_check      = "checks"
      min_healthy_time  = "10s"
      healthy_deadline  = "5m"
      progress_deadline = "10m"
      auto_promote      = var.canary > 0
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
      unlimited      = true
    }

    # Under its home lies the spool of what was recorded and not shipped yet: it goes where it goes.
    ephemeral_disk {
      size    = 1024
      sticky  = true
      migrate = true
    }

    network {
      mode = "host"
      port "gateway" {
        static = var.gateway_port
      }
      port "metrics" {
        static = var.metrics_port
      }
    }

    service {
      name     = "autocode-gateway"
      provider = "nomad"
      port     = "gateway"
    }

    # Its health is told on loopback, where the node's own Nomad client asks.
    service {
      name     = "autocode-gateway-metrics"
      provider = "nomad"
      port     = "metrics"
      address  = "127.0.0.1"

      check {
        name     = "ready"
        type     = "http"
        path     = "/readyz"
        interval = "10s"
        timeout  = "5s"
      }
    }

    task "gateway" {
      driver       = var.driver
      kill_signal  = "SIGTERM"
      kill_timeout = "${var.grace_s + 5}s"

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

      env = merge(
        {
          AUTOCODE_HOST                 = "$${NOMAD_IP_gateway}"
          AUTOCODE_HOME                 = "$${NOMAD_TASK_DIR}/home"
          AUTOCODE_GATEWAY_PORT         = "$${NOMAD_PORT_gateway}"
          AUTOCODE_GATEWAY_METRICS_PORT = "$${NOMAD_PORT_metrics}"
          AUTOCODE_GATEWAY_GRACE_MS     = format("%d", var.grace_s * 1000)
        },
        var.vault_addr == "" ? {} : {
          VAULT_ADDR      = var.vault_addr
          VAULT_JWT_FILE  = "$${NOMAD_SECRETS_DIR}/nomad_autocode.jwt"
          VAULT_AUTH_ROLE = var.vault_role
        },
        var.env,
      )

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
