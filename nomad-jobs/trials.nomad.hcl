# An experiment as a job: submits it through the autocode command and follows it to its report, which
# is the task's output. The task's exit status is the command's: 0 every trial passed, 1 not, 3 a
# budget ran out, 4 refused, 5 no orchestrator.
#
#   nomad job run -var project=example -var experiment=nightly nomad-jobs/trials.nomad.hcl
#   nomad alloc logs -job autocode-trials
#
# Where the orchestrator is and the token for it come from Nomad's variable nomad/jobs/autocode-trials
# (AUTOCODE_URL, AUTOCODE_TOKEN), which this job alone reads; its task waits until that is there. A
# pipe puts it there, so that the token is in no command line and in no job; an operator's is enough:
#
#   npx autocode token create nomad-trials --role operator --expires 90d --json |
#     jq --arg url http://10.0.0.5:7700 \
#       '{Path: "nomad/jobs/autocode-trials", Items: {AUTOCODE_URL: $url, AUTOCODE_TOKEN: .token}}' |
#     nomad var put -in json -
#
# Or from Vault (-var secrets_from=vault), or, on the orchestrator's own node, from its data folder
# (-var home=…).
#
# Run once: neither restarted nor rescheduled, since a second submission would spend twice. Nomad
# runs an ended batch job again only when it changed: set run to something else. A stopped job asks
# the orchestrator to stop its trials (SIGINT, as Ctrl-C does).

variable "project" {
  type        = string
  description = "The project that pays."
  validation {
    condition     = var.project != "" && regex_replace(var.project, "^[a-z0-9][a-z0-9._-]{0,62}$", "") == ""
    error_message = "The project must be a name of a-z, 0-9, dot, _ and -, at most 63."
  }
}

variable "experiment" {
  type        = string
  description = "What to call the experiment."
  validation {
    condition     = var.experiment != "" && substr(var.experiment, 0, 1) != "-"
    error_message = "The experiment must be a name, not empty and not an option."
  }
}

variable "run" {
  type        = string
  default     = "1"
  description = "Anything; a new value runs the same experiment again."
  validation {
    condition     = var.run != ""
    error_message = "The run must not be empty."
  }
}

variable "agents" {
  type        = list(string)
  default     = []
  description = "Agents; empty: those that the project names."
  validation {
    condition     = length([for each in var.agents : each if each == "" || substr(each, 0, 1) == "-"]) == 0
    error_message = "The agents must be names, none of them empty."
  }
}

variable "models" {
  type        = list(string)
  default     = []
  description = "Model pairs; empty: those that the project names."
  validation {
    condition     = length([for each in var.models : each if each == "" || substr(each, 0, 1) == "-"]) == 0
    error_message = "The models must be names, none of them empty."
  }
}

variable "tasks" {
  type        = list(string)
  default     = []
  description = "Tasks; empty: all of the project's."
  validation {
    condition     = length([for each in var.tasks : each if each == "" || substr(each, 0, 1) == "-"]) == 0
    error_message = "The tasks must be names, none of them empty."
  }
}

variable "attempts" {
  type        = number
  default     = 1
  description = "Attempts of each agent with each pair on each task."
  validation {
    condition     = var.attempts >= 1 && var.attempts <= 100
    error_message = "The attempts must be from 1 to 100."
  }
}

variable "concurrency" {
  type        = number
  default     = 0
  description = "Trials at once; 0: as the project says."
  validation {
    condition     = var.concurrency >= 0 && var.concurrency <= 1000
    error_message = "The concurrency must be from 0 to 1000."
  }
}

variable "budget" {
  type        = string
  default     = ""
  description = "The most that one trial may cost, in units of the currency; empty: as the project says."
  validation {
    condition     = regex_replace(var.budget, "^[0-9]+([.][0-9]{1,9})?$", "") == ""
    error_message = "The budget must be an amount such as 0.50."
  }
}

variable "job_id" {
  type        = string
  default     = "autocode-trials"
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

variable "home" {
  type        = string
  default     = ""
  description = "The orchestrator's AUTOCODE_HOME, where it runs on the same node: address and token are read there. Else empty."
  validation {
    condition     = var.home == "" || substr(var.home, 0, 1) == "/"
    error_message = "The home must be an absolute path, or empty."
  }
}

variable "api_url" {
  type        = string
  default     = ""
  description = "The orchestrator, http://address:port, where home is empty; empty: the secret AUTOCODE_URL."
  validation {
    condition     = regex_replace(var.api_url, "^https?://[^/ ]+/?$", "") == ""
    error_message = "The api_url must be http:// or https:// with an address and no path."
  }
}

variable "secrets_from" {
  type        = string
  default     = "auto"
  description = "Where AUTOCODE_TOKEN (and AUTOCODE_URL, without api_url) come from: vault (var.vault_path), variable (nomad/jobs/<job_id>), none; auto: none with a home, else variable."
  validation {
    condition     = contains(["auto", "vault", "variable", "none"], var.secrets_from)
    error_message = "The secrets_from must be auto, vault, variable or none."
  }
}

variable "vault_path" {
  type        = string
  default     = "secret/data/autocode/trials"
  description = "vault: the KV v2 secret, each key a variable of the environment."
  validation {
    condition     = var.vault_path != "" && regex_replace(var.vault_path, "^[a-z0-9][a-zA-Z0-9_./-]{0,199}$", "") == ""
    error_message = "The vault_path must be a path such as secret/data/autocode/…, without a slash at its begin."
  }
}

variable "vault_role" {
  type        = string
  default     = "autocode-trials"
  description = "vault: the role of the JWT login (nomad-jobs/policies/vault/roles)."
  validation {
    condition     = var.vault_role != "" && regex_replace(var.vault_role, "^[a-z0-9][a-z0-9-]{0,62}$", "") == ""
    error_message = "The vault_role must be 1 to 63 of a-z, 0-9 and -."
  }
}

locals {
  secrets_from = var.secrets_from != "auto" ? var.secrets_from : var.home == "" ? "variable" : "none"
  # What is not given here is not set at all: the secrets may have it.
  env = merge(
    { NO_COLOR = "1" },
    var.home == "" ? {} : { AUTOCODE_HOME = var.home },
    var.api_url == "" ? {} : { AUTOCODE_URL = var.api_url },
  )
  node = var.node == "" ? "${var.checkout}/node_modules/.bin/node" : var.node
  args = concat(
    ["${var.checkout}/bin/autocode.mjs", "experiment", "run"],
    ["--project", var.project, "--name", var.experiment, "--attempts", format("%d", var.attempts)],
    flatten([for agent in var.agents : ["--agent", agent]]),
    flatten([for model in var.models : ["--model", model]]),
    flatten([for task in var.tasks : ["--task", task]]),
    var.concurrency == 0 ? [] : ["--concurrency", format("%d", var.concurrency)],
    var.budget == "" ? [] : ["--budget", var.budget],
  )
}

job "autocode-trials" {
  id          = var.job_id
  name        = var.job_id
  type        = "batch"
  namespace   = var.namespace
  datacenters = var.datacenters
  node_pool   = var.node_pool

  meta {
    run = var.run
  }

  constraint {
    attribute = "$${attr.kernel.name}"
    value     = "linux"
  }

  group "experiment" {
    count = 1

    restart {
      attempts = 0
      mode     = "fail"
    }

    reschedule {
      attempts  = 0
      unlimited = false
    }

    disconnect {
      replace = false
    }

    task "experiment" {
      driver       = var.driver
      kill_signal  = "SIGINT"
      kill_timeout = "25s"

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

      env = local.env

      # Each key is a variable of the environment; Nomad keeps the file in memory, for this task alone.
      dynamic "template" {
        for_each = local.secrets_from == "variable" ? [var.job_id] : []
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

      dynamic "template" {
        for_each = local.secrets_from == "vault" ? [var.vault_path] : []
        content {
          destination = "$${NOMAD_SECRETS_DIR}/vault.env"
          env         = true
          change_mode = "noop"
          data        = <<-EOT
            {{ with secret "${template.value}" }}{{ range $key, $value := .Data.data }}
            {{ $key }}={{ $value | toJSON }}
            {{ end }}{{ end }}
          EOT
        }
      }

      dynamic "vault" {
        for_each = local.secrets_from == "vault" ? [var.vault_role] : []
        content {
          role        = vault.value
          env         = false
          change_mode = "noop"
        }
      }

      # What Vault's jwt-nomad login is shown; its role binds the audience, the job and the task.
      dynamic "identity" {
        for_each = local.secrets_from == "vault" ? ["vault_default"] : []
        content {
          name = identity.value
          aud  = ["vault.io"]
          ttl  = "1h"
        }
      }

      resources {
        cpu    = 100
        memory = 256
      }

      logs {
        max_files     = 2
        max_file_size = 10
      }
    }
  }
}
