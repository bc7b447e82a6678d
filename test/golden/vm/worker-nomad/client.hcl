# A Nomad client. The jobs of nomad-jobs/ choose it by its node pool and by its meta.
region     = "north \"east\""
datacenter = "dc-\u0024{b}"
name       = "gpu-7"
data_dir   = "/opt/nomad"
bind_addr  = "127.0.0.1"

advertise {
  http = "127.0.0.1"
}

client {
  enabled   = true
  node_pool = "default"
  servers   = ["10.20.0.3:4647", "10.20.0.4:4647"]

  meta = {
    "vm_template" = "worker"
    "autocode.slots"       = "4"
    "rack" = "7"
    "note" = "a=b \\ \u0025{c}"
  }
}

plugin "raw_exec" {
  config {
    enabled = true
  }
}
