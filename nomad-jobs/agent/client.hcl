# A Nomad client that runs trials: /etc/nomad.d/client.hcl, beside the package's own nomad.hcl.

data_dir  = "/opt/nomad/data"
bind_addr = "0.0.0.0"

client {
  enabled   = true
  servers   = ["10.0.0.2:4647"]
  node_pool = "default"

  # orchestrator.nomad.hcl and worker-vm.nomad.hcl ask for this; a longer grace needs more.
  max_kill_timeout = "60s"

  # What requirements.vm_template of a project or task asks for.
  meta {
    vm_template = "worker"
  }

  # For the drivers exec and docker: -var host_volume=autocode.
  host_volume "autocode" {
    path      = "/opt/autocode"
    read_only = true
  }

  # The system's own share.
  reserved {
    cpu    = 500
    memory = 512
  }
}

# A process of the host. Trials then run as users of their own (run_as), which is not a sandbox.
plugin "raw_exec" {
  config {
    enabled = true
  }
}

# worker-vm.nomad.hcl: where VMs that `autocode vm build` made may lie, and the flags that job gives
# qemu. Nomad compares flags, not their values: who may submit a job here can still name any device
# or file of the host in a -drive or -device. The guard is the ACL below: give submit-job to few.
plugin "qemu" {
  config {
    image_paths = ["/srv/autocode-vms"]
    args_allowlist = [
      "-append", "-cpu", "-device", "-drive", "-initrd", "-kernel", "-machine", "-netdev", "-qmp", "-smp",
    ]
  }
}

acl {
  enabled = true
}
