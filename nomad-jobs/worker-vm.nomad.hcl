# A worker VM under Nomad: what `autocode vm build` made, run by the driver qemu. The VM's own host
# program joins the orchestrator (AUTOCODE_SCHEDULER=fleet), and trials are placed in it from there.
#
#   autocode vm build … --out /srv/autocode-vms/worker-1
#   nomad job run -var folder=/srv/autocode-vms/worker-1 -var node_name=<that node> \
#     nomad-jobs/worker-vm.nomad.hcl
#
# The VM keeps what it writes in its folder, so it runs on the node that has it, and never twice. The
# client's plugin "qemu" must allow the folder and these arguments (nomad-jobs/agent/client.hcl).
#
# qemu's monitor is a socket in the folder, so `autocode vm snapshot|restore|follow <folder>` work on
# that node as they do for run.sh. qemu makes it as its umask says: what closes it is the folder's
# mode, 0700. Nomad's own monitor, which presses the power button, is another one.

variable "job_id" {
  type        = string
  default     = "autocode-worker-vm"
  description = "The job's name: one a VM."
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

variable "folder" {
  type        = string
  description = "The folder that was built, with disk.qcow2 and seed.iso."
  validation {
    condition     = var.folder != "" && regex_replace(var.folder, "^/[A-Za-z0-9._/-]{1,97}$", "") == ""
    error_message = "The folder must be an absolute path of up to 98 letters, digits, dot, _, / and -: a socket's path is short."
  }
}

variable "node_name" {
  type        = string
  default     = ""
  description = "The node that has the folder; empty: any, if it is shared by all of the pool."
  validation {
    condition     = regex_replace(var.node_name, "^[A-Za-z0-9._-]{1,128}$", "") == ""
    error_message = "The node_name must be up to 128 of letters, digits, dot, _ and -."
  }
}

variable "cpus" {
  type        = number
  default     = 64
  description = "Virtual CPUs."
  validation {
    condition     = var.cpus >= 1 && var.cpus <= 1024 && floor(var.cpus) == var.cpus
    error_message = "The cpus must be a whole number from 1 to 1024."
  }
}

variable "memory" {
  type        = number
  default     = 8192
  description = "MiB."
  validation {
    condition     = var.memory >= 512 && var.memory <= 4000000
    error_message = "The memory must be from 512 to 4000000 MiB."
  }
}

variable "cpu" {
  type        = number
  default     = 4000
  description = "MHz that the node keeps for it."
  validation {
    condition     = var.cpu >= 100 && var.cpu <= 10000000
    error_message = "The cpu must be from 100 to 10000000 MHz."
  }
}

variable "accelerator" {
  type        = string
  default     = "kvm"
  description = "kvm, or tcg where the node has none: slow."
  validation {
    condition     = contains(["kvm", "tcg"], var.accelerator)
    error_message = "The accelerator must be kvm or tcg."
  }
}

variable "has_kernel" {
  type        = bool
  default     = false
  description = "Whether the folder has vmlinuz and initrd.img to boot with: built from a root folder, not an image."
  validation {
    condition     = var.has_kernel == true || var.has_kernel == false
    error_message = "The has_kernel must be true or false."
  }
}

variable "bridge" {
  type        = string
  default     = ""
  description = "The host's bridge that it is on; empty: behind the node, by user networking."
  validation {
    condition     = regex_replace(var.bridge, "^[a-z0-9][a-z0-9._-]{0,14}$", "") == ""
    error_message = "The bridge must be an interface's name, up to 15 of a-z, 0-9, dot, _ and -."
  }
}

variable "mac" {
  type        = string
  default     = ""
  description = "Its hardware address; empty: qemu's."
  validation {
    condition     = regex_replace(var.mac, "^[0-9a-f]{2}(:[0-9a-f]{2}){5}$", "") == ""
    error_message = "The mac must be six pairs of hexadecimal digits with colons."
  }
}

locals {
  network = var.bridge == "" ? "user,id=net0" : "bridge,id=net0,br=${var.bridge}"
  card    = var.mac == "" ? "virtio-net-pci,netdev=net0" : "virtio-net-pci,netdev=net0,mac=${var.mac}"
  monitor = "unix:${var.folder}/qmp.sock,server=on,wait=off"
  seed    = "file=${var.folder}/seed.iso,if=virtio,format=raw,readonly=on"
  kernel = [
    "-kernel", "${var.folder}/vmlinuz",
    "-initrd", "${var.folder}/initrd.img",
    "-append", "root=/dev/vda rw console=ttyS0 ds=nocloud quiet",
  ]
}

job "autocode-worker-vm" {
  id          = var.job_id
  name        = var.job_id
  type        = "service"
  namespace   = var.namespace
  datacenters = var.datacenters
  node_pool   = var.node_pool
  priority    = var.priority

  dynamic "constraint" {
    for_each = var.node_name == "" ? [] : [var.node_name]
    content {
      attribute = "$${node.unique.name}"
      value     = constraint.value
    }
  }

  group "vm" {
    count = 1

    restart {
      attempts = 3
      interval = "30m"
      delay    = "30s"
      mode     = "delay"
    }

    # A node that is cut off still runs it: a second one on the same disk would ruin it.
    disconnect {
      replace = false
    }

    task "vm" {
      driver       = "qemu"
      kill_timeout = "60s"

      config {
        image_path        = "${var.folder}/disk.qcow2"
        drive_interface   = "virtio"
        accelerator       = var.accelerator
        graceful_shutdown = true
        # After Nomad's own, and the last one counts: its option machine_type came with 1.11 only.
        args = concat(
          ["-machine", "q35", "-qmp", local.monitor, "-cpu", "max", "-smp", format("%d", var.cpus)],
          ["-drive", local.seed, "-netdev", local.network, "-device", local.card],
          ["-device", "virtio-rng-pci"],
          [for each in local.kernel : each if var.has_kernel],
        )
      }

      resources {
        cpu    = var.cpu
        memory = var.memory
      }

      logs {
        max_files     = 2
        max_file_size = 10
      }
    }
  }
}
