# A model server of your own: vLLM with its OpenAI-compatible API, on nodes with GPUs.
#
#   nomad job run -var model=Qwen/Qwen2.5-Coder-7B-Instruct -var gpus=1 nomad-jobs/models.nomad.hcl
#   autocode model render 14b --as nomad --gpu 2xl40s     # the variables of a planned pair
#
# Its address goes into a project's file (models.<pair>.normal.base_url: http://<node>:8000/v1, with a
# price). One job a model: set job_id and port for the next. Only gateways may reach the port: vLLM's
# own key does not guard every path, so close it to workers in the nodes' firewall.

variable "model" {
  type        = string
  description = "A model's name at its hub, or a folder of weights on the node."
  validation {
    condition     = var.model != "" && regex_replace(var.model, "^[A-Za-z0-9/][A-Za-z0-9._/-]{0,199}$", "") == ""
    error_message = "The model must be a name such as Qwen/Qwen2.5-Coder-7B-Instruct or a path."
  }
}

variable "served_name" {
  type        = string
  default     = ""
  description = "The name that projects call it by; empty: the model's own."
  validation {
    condition     = regex_replace(var.served_name, "^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$", "") == ""
    error_message = "The served_name must be of letters, digits, dot, _, / and -."
  }
}

variable "job_id" {
  type        = string
  default     = "autocode-model"
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
  default     = 70
  description = "1 to 100, above that of trials."
  validation {
    condition     = var.priority >= 1 && var.priority <= 100
    error_message = "The priority must be from 1 to 100."
  }
}

variable "driver" {
  type        = string
  default     = "docker"
  description = "docker (var.image), or raw_exec (a virtual environment on the node, var.python)."
  validation {
    condition     = contains(["docker", "raw_exec"], var.driver)
    error_message = "The driver must be docker or raw_exec."
  }
}

variable "image" {
  type        = string
  default     = "vllm/vllm-openai:v0.32.0"
  description = "docker: the image; name a version, so that a restart is no upgrade."
  validation {
    condition     = var.image != ""
    error_message = "The image must not be empty."
  }
}

variable "python" {
  type        = string
  default     = "/opt/vllm/bin/python"
  description = "raw_exec: the Python that has vllm."
  validation {
    condition     = substr(var.python, 0, 1) == "/"
    error_message = "The python must be an absolute path."
  }
}

variable "port" {
  type        = number
  default     = 8000
  description = "Where it listens, on the node's own address."
  validation {
    condition     = var.port >= 1 && var.port <= 65535
    error_message = "The port must be from 1 to 65535."
  }
}

variable "gpus" {
  type        = number
  default     = 1
  description = "GPUs; the model is split over them. 0: vLLM on CPUs."
  validation {
    condition     = var.gpus >= 0 && var.gpus <= 64
    error_message = "The gpus must be from 0 to 64."
  }
}

variable "gpu_device" {
  type        = string
  default     = "nvidia/gpu"
  description = "The device that a GPU is: type, vendor/type or vendor/type/model."
  validation {
    condition     = var.gpu_device != "" && regex_replace(var.gpu_device, "^[^/]+(/[^/]+){0,2}$", "") == ""
    error_message = "The gpu_device must be type, vendor/type or vendor/type/model."
  }
}

variable "gpu_memory_mib" {
  type        = number
  default     = 0
  description = "The least memory of each GPU in MiB, as its driver says; 0: any."
  validation {
    condition     = var.gpu_memory_mib >= 0 && var.gpu_memory_mib <= 1048576
    error_message = "The gpu_memory_mib must be from 0 to 1048576."
  }
}

variable "max_model_len" {
  type        = number
  default     = 0
  description = "The longest context in tokens; 0: the model's own."
  validation {
    condition     = var.max_model_len >= 0 && var.max_model_len <= 100000000
    error_message = "The max_model_len must be from 0 to 100000000."
  }
}

variable "extra_args" {
  type        = list(string)
  default     = []
  description = "More of vLLM's options, such as [\"--enable-prefix-caching\"]."
  validation {
    condition     = length([for each in var.extra_args : each if each == ""]) == 0
    error_message = "The extra_args must not be empty texts."
  }
}

variable "plugins" {
  type        = map(string)
  default     = {}
  description = "Files that come with the job, by name, in $${NOMAD_TASK_DIR}/serving: vLLM's plugins."
  validation {
    condition = length([
      for name in keys(var.plugins) : name
      if regex_replace(name, "^[a-z0-9][a-z0-9._/-]{0,199}$", "") != "" || contains(split("/", name), "..")
    ]) == 0
    error_message = "The plugins must be named by a-z, 0-9, dot, _, / and -, below their folder."
  }
}

variable "env" {
  type        = map(string)
  default     = {}
  description = "More of the engine's environment; no secrets."
  validation {
    condition     = length([for name in keys(var.env) : name if regex_replace(name, "^[A-Z][A-Z0-9_]*$", "") != ""]) == 0
    error_message = "The env must name variables of A-Z, 0-9 and _."
  }
}

variable "weights_volume" {
  type        = string
  default     = ""
  description = "docker: the client's host volume that keeps downloaded weights."
  validation {
    condition     = regex_replace(var.weights_volume, "^[a-zA-Z0-9-]{1,128}$", "") == ""
    error_message = "The weights_volume must be up to 128 of a-z, A-Z, 0-9 and -."
  }
}

variable "cpu" {
  type        = number
  default     = 4000
  description = "MHz."
  validation {
    condition     = var.cpu >= 100 && var.cpu <= 1000000
    error_message = "The cpu must be from 100 to 1000000."
  }
}

variable "memory" {
  type        = number
  default     = 16384
  description = "MiB of main memory."
  validation {
    condition     = var.memory >= 1024 && var.memory <= 8388608
    error_message = "The memory must be from 1024 to 8388608."
  }
}

locals {
  has_volume = var.weights_volume != "" && var.driver == "docker"

  args = concat(
    ["--model", var.model, "--host", "$${NOMAD_IP_http}", "--port", "$${NOMAD_PORT_http}"],
    var.served_name == "" ? [] : ["--served-model-name", var.served_name],
    var.gpus <= 1 || contains(var.extra_args, "--tensor-parallel-size") ? [] : [
      "--tensor-parallel-size", format("%d", var.gpus),
    ],
    var.max_model_len == 0 ? [] : ["--max-model-len", format("%d", var.max_model_len)],
    var.extra_args,
  )
}

job "autocode-model" {
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

  group "model" {
    count = 1

    # No canary: its GPUs are taken until it ends. Weights are long in loading.
    update {
      max_parallel      = 1
      health_check      = "checks"
      min_healthy_time  = "10s"
      healthy_deadline  = "30m"
      progress_deadline = "45m"
      auto_revert       = true
    }

    restart {
      attempts = 3
      interval = "30m"
      delay    = "15s"
      mode     = "delay"
    }

    network {
      mode = "host"
      port "http" {
        static = var.port
      }
    }

    service {
      name     = var.job_id
      provider = "nomad"
      port     = "http"

      check {
        name     = "health"
        type     = "http"
        path     = "/health"
        interval = "10s"
        timeout  = "5s"
      }
    }

    dynamic "volume" {
      for_each = local.has_volume ? [var.weights_volume] : []
      labels   = ["weights"]
      content {
        type      = "host"
        source    = volume.value
        read_only = false
      }
    }

    task "server" {
      driver       = var.driver
      kill_signal  = "SIGTERM"
      kill_timeout = "30s"

      dynamic "config" {
        for_each = var.driver == "docker" ? [var.image] : []
        content {
          image        = config.value
          entrypoint   = ["python3", "-m", "vllm.entrypoints.openai.api_server"]
          args         = local.args
          network_mode = "host"
          ipc_mode     = "host"
        }
      }

      dynamic "config" {
        for_each = var.driver == "docker" ? [] : [var.python]
        content {
          command = config.value
          args    = concat(["-m", "vllm.entrypoints.openai.api_server"], local.args)
        }
      }

      dynamic "volume_mount" {
        for_each = local.has_volume ? ["weights"] : []
        content {
          volume      = volume_mount.value
          destination = "/weights"
          read_only   = false
        }
      }

      dynamic "template" {
        for_each = var.plugins
        content {
          destination = "local/serving/${template.key}"
          data        = template.value
          change_mode = "noop"
          # Python and Jinja have braces of their own.
          left_delimiter  = "<%autocode"
          right_delimiter = "autocode%>"
        }
      }

      env = merge(
        { VLLM_NO_USAGE_STATS = "1", DO_NOT_TRACK = "1" },
        local.has_volume ? { HF_HOME = "/weights" } : {},
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
              for_each = var.gpu_memory_mib == 0 ? [] : [var.gpu_memory_mib]
              content {
                attribute = "$${device.attr.memory}"
                operator  = ">="
                value     = format("%d MiB", constraint.value)
              }
            }
          }
        }
      }

      logs {
        max_files     = 3
        max_file_size = 20
      }
    }
  }
}
