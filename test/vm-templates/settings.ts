/** The variables that the goldens and the checks of the templates are made with. */
import type { Layer } from "../../vm-templates/variables.ts";

/** What a template cannot guess. */
export const NEEDED: Layer = {
  orchestrator_url: "http://10.20.0.2:7700",
  join_token: "join-token-of-a-test",
};

/** A certificate's form; nobody has its key. */
const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBdDCCARugAwIBAgIUVGVzdE9ubHlOb3RBQ2VydGlmaWNhdGUwCgYIKoZIzj0E
-----END CERTIFICATE-----
`;

/** Everything that a template can be told, at once. */
export const FULL: Layer = {
  ...NEEDED,
  name: "gpu-7",
  cpus: 16,
  memory_mib: 65_536,
  packages: ["build-essential"],
  network: "static",
  mac: "52:54:00:12:34:56",
  address: "10.20.0.7/24",
  gateway: "10.20.0.1",
  dns_servers: ["10.20.0.1", "fd00::1"],
  search_domains: ["lab.example"],
  vlan_id: 20,
  guest_bridge: "br0",
  host_bridge: "vmbr0",
  ssh_keys: ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAITestOnly operator\'s "own" key'],
  ssh_from: ["10.20.0.0/24", "fd00:20::/64"],
  egress_to: ["10.20.0.2/32", "fd00:20::2/128"],
  proxy_url: "http://proxy.lab.example:3128",
  no_proxy: ["localhost", "10.20.0.0/24"],
  ca_certificates: [CERTIFICATE],
  has_desktop: true,
  gpu_addresses: ["0000:65:00.0", "0000:b3:00.1"],
};

export const NOMAD: Layer = {
  ...FULL,
  engine: "nomad",
  vlan_by: "switch",
  nomad_servers: ["10.20.0.3:4647", "10.20.0.4:4647"],
  nomad_region: 'north "east"',
  nomad_datacenter: "dc-${" + "b}",
  nomad_meta: ["rack=7", "note=a=b \\ %{c}"],
};

/** A golden's folder, and what it is rendered of. */
export const GOLDENS: readonly { golden: string; template: string; layer: Layer }[] = [
  { golden: "base", template: "base", layer: {} },
  { golden: "ubuntu", template: "ubuntu", layer: {} },
  { golden: "worker", template: "worker", layer: NEEDED },
  { golden: "gpu-worker", template: "gpu-worker", layer: FULL },
  { golden: "worker-nomad", template: "worker", layer: NOMAD },
];
