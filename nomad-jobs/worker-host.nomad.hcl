# Our host program on every node of a pool: for the fleet scheduler (AUTOCODE_SCHEDULER=fleet), with
# Nomad keeping it running. The orchestrator then places trials on these workers by itself.
#
#   autocode worker token --pool default --uses 20
#   nomad var put nomad/jobs/autocode-worker AUTOCODE_JOIN_TOKEN=…
#   nomad job run -var api_url=http://10.0.0.5:7700 nomad-jobs/worker-host.nomad.hcl
#
# A node that has joined keeps its own token in dir and needs the join token no more. A stopped one
# takes nothing new and ends what it has, as long as drain_s; `autocode worker drain` does it first.

variable "job_id" {
  type        = string
  default     = "autocode-worker"
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
  default     = 60
  description = "1 to 100, above that of trials."
  validation {
    condition     = var.priority >= 1 && var.priority <= 100
    error_message = "The priority must be from 1 to 100."
  }
}

variable "checkout" {
  type        = string
  default     = "/opt/autocode"
  description = "Where autocode (with its node_modules) is on each node."
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

variable "api_url" {
  type        = string
  description = "The orchestrators, http://address:port; several with commas."
  validation {
    condition     = var.api_url != "" && regex_replace(var.api_url, "^https?://[^/, ]+(,https?://[^/, ]+)*$", "") == ""
    error_message = "The api_url must be http:// or https:// with an address and no path; several with commas."
  }
}

variable "dir" {
  type        = string
  default     = "/var/lib/autocode-worker"
  description = "Its token, its allocations and the agents, on each node."
  validation {
    condition     = substr(var.dir, 0, 1) == "/"
    error_message = "The dir must be an absolute path."
  }
}

variable "slots" {
  type        = number
  default     = 0
  description = "Allocations at once on a node; 0: as many as it has CPUs."
  validation {
    condition     = var.slots >= 0 && var.slots <= 1000 && floor(var.slots) == var.slots
    error_message = "The slots must be a whole number from 0 to 1000."
  }
}

variable "drain_s" {
  type        = number
  default     = 20
  description = "Seconds that what runs may go on after a stop; the client's max_kill_timeout must be 10 more."
  validation {
    condition     = var.drain_s >= 0 && var.drain_s <= 86400
    error_message = "The drain_s must be from 0 to 86400."
  }
}

variable "secrets_from" {
  type        = string
  default     = "variable"
  description = "Where secrets (AUTOCODE_JOIN_TOKEN) come from: variable (nomad/jobs/<job_id>), or none once all have joined."
  validation {
    condition     = contains(["variable", "none"], var.secrets_from)
    error_message = "The secrets_from must be variable or none."
  }
}

variable "cpu" {
  type        = number
  default     = 1000
  description = "MHz that a node keeps for it and its trials."
  validation {
    condition     = var.cpu >= 100 && var.cpu <= 1000000
    error_message = "The cpu must be from 100 to 1000000."
  }
}

variable "memory" {
  type        = number
  default     = 4096
  description = "MiB that a node keeps for it and its trials."
  validation {
    condition     = var.memory >= 256 && var.memory <= 8388608
    error_message = "The memory must be from 256 to 8388608."
  }
}

locals {
  node = var.node == "" ? "${var.checkout}/node_modules/.bin/node" : var.node
}

job "autocode-worker" {
  id          = var.job_id
  name        = var.job_id
  type        = "system"
  namespace   = var.namespace
  datacenters = var.datacenters
  node_pool   = var.node_pool
  priority    = var.priority

  constraint {
    attribute = "$${attr.kernel.name}"
    value     = "linux"
  }

  group "worker" {
    restart {
      attempts = 5
      interval = "5m"
      delay    = "10s"
      mode     = "delay"
    }

    task "host" {
      driver       = "raw_exec"
      kill_signal  = "SIGTERM"
      kill_timeout = "${var.drain_s + 10}s"

      config {
        command = local.node
        args    = ["${var.checkout}/worker-agent/host/main.ts"]
      }

      env {
        AUTOCODE_API_URL      = var.api_url
        AUTOCODE_WORKER_NAME  = "$${node.unique.name}"
        AUTOCODE_WORKER_DIR   = var.dir
        AUTOCODE_WORKER_SLOTS = var.slots == 0 ? "" : format("%d", var.slots)
        AUTOCODE_DRAIN_MS     = format("%d", var.drain_s * 1000)
      }

      # Each key is a variable of the environment; Nomad keeps the file in memory, for this task alone.
      dynamic "template" {
        for_each = var.secrets_from == "variable" ? [var.job_id] : []
        content {
          destination = "$${NOMAD_SECRETS_DIR}/variables.env"
          env         = true
          change_mode = "noop"
          data        = <<-EOT
            {{ with nomadVar "nomad/jobs/${template.value}" }}{{ range .Tuples }}
            {{ .K }}={{ .V | toJSON }}
            {{ end }}{{ end }}
          EOT
        }
      }

      resources {
        cpu    = var.cpu
        memory = var.memory
      }

      logs {
        max_files     = 3
        max_file_size = 10
      }
    }
  }
}
