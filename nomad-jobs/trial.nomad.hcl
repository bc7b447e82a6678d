# One allocation of a trial: a parameterised batch job. The orchestrator dispatches it (or a variant
# that it registers from it, where a trial asks for other resources); nobody dispatches it by hand.
#
#   nomad job run nomad-jobs/trial.nomad.hcl
#
# Its names, meta keys and file are those of orchestrator/scheduler/nomad-job.ts; a test compares.
#
# A dispatch carries ids in its meta and an enrolment token, good once, in its payload: far below
# Nomad's 16 KiB. The worker-agent reads and removes the payload's file, enrols, and asks for the
# rest. Run once: Nomad neither restarts nor reschedules it. A trial's next try is a new allocation
# with a new token and a new fence, and the orchestrator alone decides on it.
#
# A virtual machine is not a driver here: it joins as a worker of its own (worker-vm.nomad.hcl).

variable "job_id" {
  type        = string
  default     = "autocode-trial"
  description = "The job's name: the orchestrator's AUTOCODE_NOMAD_JOB."
  validation {
    condition     = var.job_id != "" && regex_replace(var.job_id, "^[a-z0-9][a-z0-9-]{0,62}$", "") == ""
    error_message = "The job_id must be 1 to 63 of a-z, 0-9 and -."
  }
}

variable "namespace" {
  type        = string
  default     = "default"
  description = "The namespace that trials run in: the orchestrator's NOMAD_NAMESPACE."
  validation {
    condition     = var.namespace != ""
    error_message = "The namespace must not be empty; Nomad's own is \"default\"."
  }
}

variable "datacenters" {
  type        = list(string)
  default     = ["*"]
  description = "Where trials may run; \"*\" is everywhere."
  validation {
    condition     = length(var.datacenters) > 0
    error_message = "Name at least one of datacenters, or \"*\"."
  }
}

variable "node_pool" {
  type        = string
  default     = "default"
  description = "The pool of nodes that run trials; \"all\" is every node."
  validation {
    condition     = var.node_pool != ""
    error_message = "The node_pool must not be empty; Nomad's own are \"default\" and \"all\"."
  }
}

variable "priority" {
  type        = number
  default     = 50
  description = "1 to 100; the orchestrator's own job should have a higher one."
  validation {
    condition     = var.priority >= 1 && var.priority <= 100
    error_message = "The priority must be from 1 to 100."
  }
}

variable "driver" {
  type        = string
  default     = "raw_exec"
  description = "How the worker-agent runs: raw_exec (a process), exec (chroot, cgroup), docker."
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

variable "artifact" {
  type        = string
  default     = ""
  description = "An archive of a checkout (with node_modules) to fetch instead: an address of go-getter's."
  validation {
    condition     = var.artifact == "" || regex_replace(var.artifact, "^(https?|s3|git|gcs|file)::?.+$", "") == ""
    error_message = "The artifact must be an address that begins with https:, s3::, git::, gcs:: or file:."
  }
}

variable "artifact_checksum" {
  type        = string
  default     = ""
  description = "sha256:… of the archive; empty: not checked."
  validation {
    condition     = var.artifact_checksum == "" || regex_replace(var.artifact_checksum, "^sha256:[0-9a-f]{64}$", "") == ""
    error_message = "The artifact_checksum must be sha256: and 64 hexadecimal digits."
  }
}

variable "image" {
  type        = string
  default     = "autocode/worker:latest"
  description = "docker: an image with git, a shell and what the tests need."
  validation {
    condition     = var.image != ""
    error_message = "The image must not be empty."
  }
}

variable "host_volume" {
  type        = string
  default     = ""
  description = "exec, docker: the client's host volume that holds the checkout, mounted read-only."
  validation {
    condition     = regex_replace(var.host_volume, "^[a-zA-Z0-9-]{1,128}$", "") == ""
    error_message = "The host_volume must be up to 128 of a-z, A-Z, 0-9 and -."
  }
}

variable "api_url" {
  type        = string
  default     = ""
  description = "Where workers reach the orchestrator, http://address:port; empty: where it says it is."
  validation {
    condition     = regex_replace(var.api_url, "^https?://[^/, ]+(,https?://[^/, ]+)*$", "") == ""
    error_message = "The api_url must be http:// or https:// with an address and no path; several with commas."
  }
}

variable "agents_dir" {
  type        = string
  default     = "/var/lib/autocode/agents"
  description = "Where agents are, or will be, installed on a node; shared by its trials."
  validation {
    condition     = substr(var.agents_dir, 0, 1) == "/"
    error_message = "The agents_dir must be an absolute path."
  }
}

variable "run_as" {
  type        = string
  default     = "allocation"
  description = "raw_exec as root: the agent's user. \"allocation\": one of each allocation's own; uid:gid; empty: root."
  validation {
    condition     = regex_replace(var.run_as, "^(allocation|[1-9][0-9]{0,9}:[1-9][0-9]{0,9})$", "") == ""
    error_message = "The run_as must be allocation, uid:gid with neither of them 0, or empty."
  }
}

variable "env" {
  type        = map(string)
  default     = {}
  description = "More of a worker's environment: registries, proxies, AUTOCODE_LIMIT_… No secrets: who reads the job reads them."
  validation {
    condition     = length([for name, value in var.env : name if regex_replace(name, "^[A-Za-z][A-Za-z0-9_]*$", "") != ""]) == 0
    error_message = "The env must have names of letters, digits and _."
  }
}

variable "cpu" {
  type        = number
  default     = 1000
  description = "MHz that one allocation reserves."
  validation {
    condition     = var.cpu >= 50 && var.cpu <= 1000000
    error_message = "The cpu must be from 50 to 1000000 MHz."
  }
}

variable "memory" {
  type        = number
  default     = 2048
  description = "MiB that one allocation reserves."
  validation {
    condition     = var.memory >= 256 && var.memory <= 8388608
    error_message = "The memory must be from 256 to 8388608 MiB."
  }
}

variable "disk" {
  type        = number
  default     = 4096
  description = "MiB of disk that one allocation reserves."
  validation {
    condition     = var.disk >= 300 && var.disk <= 134217728
    error_message = "The disk must be from 300 to 134217728 MiB."
  }
}

variable "gpus" {
  type        = number
  default     = 0
  description = "GPUs of one allocation; the node needs Nomad's device plugin for them."
  validation {
    condition     = var.gpus >= 0 && var.gpus <= 64
    error_message = "The gpus must be from 0 to 64."
  }
}

variable "gpu_device" {
  type        = string
  default     = "gpu"
  description = "The device that a GPU is: type, vendor/type or vendor/type/model."
  validation {
    condition     = var.gpu_device != "" && regex_replace(var.gpu_device, "^[^/]+(/[^/]+){0,2}$", "") == ""
    error_message = "The gpu_device must be type, vendor/type or vendor/type/model."
  }
}

variable "gpu_memory" {
  type        = number
  default     = 0
  description = "MiB that each GPU must have; 0: any."
  validation {
    condition     = var.gpu_memory >= 0
    error_message = "The gpu_memory must not be negative."
  }
}

variable "vm_template" {
  type        = string
  default     = ""
  description = "Only on nodes whose meta.vm_template is this; empty: any node."
  validation {
    condition     = regex_replace(var.vm_template, "^[a-z0-9][a-z0-9-]{0,62}$", "") == ""
    error_message = "The vm_template must be up to 63 of a-z, 0-9 and -."
  }
}

variable "kill_timeout" {
  type        = string
  default     = "20s"
  description = "What a worker-agent that is stopped has to report; at most the client's max_kill_timeout."
  validation {
    condition     = regex_replace(var.kill_timeout, "^[1-9][0-9]*(s|m)$", "") == "" && var.kill_timeout != ""
    error_message = "The kill_timeout must be a duration such as 30s or 1m."
  }
}

locals {
  root = var.artifact == "" ? var.checkout : "$${NOMAD_TASK_DIR}/autocode"
  node = var.node == "" ? "${local.root}/node_modules/.bin/node" : var.node
  main = "${local.root}/worker-agent/main.ts"
  api  = var.api_url == "" ? "$${NOMAD_META_api_url}" : var.api_url

  # A process of the host sees the host's folders as they are.
  has_volume = var.host_volume != "" && var.driver != "raw_exec"
}

job "autocode-trial" {
  id          = var.job_id
  name        = var.job_id
  type        = "batch"
  namespace   = var.namespace
  datacenters = var.datacenters
  node_pool   = var.node_pool
  priority    = var.priority

  parameterized {
    payload       = "required"
    meta_required = ["trial_id", "allocation_id"]
    meta_optional = ["api_url"]
  }

  constraint {
    attribute = "$${attr.kernel.name}"
    value     = "linux"
  }

  dynamic "constraint" {
    for_each = var.vm_template == "" ? [] : [var.vm_template]
    content {
      attribute = "$${meta.vm_template}"
      value     = constraint.value
    }
  }

  group "worker" {
    count = 1

    restart {
      attempts = 0
      interval = "1m"
      delay    = "15s"
      mode     = "fail"
    }

    reschedule {
      attempts  = 0
      unlimited = false
    }

    # A node that is cut off keeps what it runs; our own fence decides what its result is worth.
    disconnect {
      replace = false
    }

    ephemeral_disk {
      size = var.disk
    }

    dynamic "volume" {
      for_each = local.has_volume ? [var.host_volume] : []
      labels   = ["checkout"]
      content {
        type      = "host"
        source    = volume.value
        read_only = true
      }
    }

    task "worker-agent" {
      driver       = var.driver
      kill_signal  = "SIGTERM"
      kill_timeout = var.kill_timeout

      dynamic "config" {
        for_each = var.driver == "docker" ? [] : [local.node]
        content {
          command = config.value
          args    = [local.main]
        }
      }

      dynamic "config" {
        for_each = var.driver == "docker" ? [local.node] : []
        content {
          image        = var.image
          command      = config.value
          args         = [local.main]
          init         = true
          network_mode = "host"
          pids_limit   = 4096
          cap_drop     = ["all"]
          security_opt = ["no-new-privileges"]
        }
      }

      dispatch_payload {
        file = "enrolment-token"
      }

      dynamic "artifact" {
        for_each = var.artifact == "" ? [] : [var.artifact]
        content {
          source      = artifact.value
          destination = "local/autocode"

          dynamic "options" {
            for_each = var.artifact_checksum == "" ? [] : [var.artifact_checksum]
            content {
              checksum = options.value
            }
          }
        }
      }

      dynamic "volume_mount" {
        for_each = local.has_volume ? ["checkout"] : []
        content {
          volume      = volume_mount.value
          destination = var.checkout
          read_only   = true
        }
      }

      env = merge(
        {
          AUTOCODE_API_URL              = local.api
          AUTOCODE_AGENTS_DIR           = var.driver == "exec" ? "" : var.agents_dir
          AUTOCODE_ENROLMENT_TOKEN_FILE = "$${NOMAD_TASK_DIR}/enrolment-token"
          AUTOCODE_RUN_AS               = var.driver == "raw_exec" ? var.run_as : ""
        },
        var.env,
      )

      resources {
        cpu    = var.cpu
        memory = var.memory

        dynamic "device" {
          for_each = var.gpus == 0 ? [] : [var.gpus]
          labels   = [var.gpu_device]
          content {
            count = device.value

            dynamic "constraint" {
              for_each = var.gpu_memory == 0 ? [] : [var.gpu_memory]
              content {
                attribute = "$${device.attr.memory}"
                operator  = ">="
                value     = "${constraint.value} MiB"
              }
            }
          }
        }
      }

      logs {
        max_files     = 2
        max_file_size = 10
      }
    }
  }
}
