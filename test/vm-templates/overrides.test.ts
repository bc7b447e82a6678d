/**
 * Goal: every figure of a VM may be set by the environment and by a project's file, and is then in
 * its files.
 *
 * Method: a value of each variable's own, given in both ways; the files with it differ from those
 * without. A variable that nobody gave a value here fails by its name.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { stringify } from "yaml";
import { readCatalog } from "../../vm-templates/catalog.ts";
import { renderTemplate } from "../../vm-templates/render.ts";
import {
  environmentLayer,
  type Layer,
  parseLayer,
  VARIABLE_NAMES,
} from "../../vm-templates/variables.ts";
import { FULL, NOMAD } from "./settings.ts";

/** Of no template's own value, and of none of FULL or NOMAD. */
const VALUES: Layer = {
  ...{ name: "of-its-own", cpus: 3, memory_mib: 3_000, disk_gib: 33, os_release: "26.04" },
  ...{ time_zone: "America/Toronto", packages: ["jq"], installs_packages: false },
  ...{ network: "static", mac: "52:54:00:99:99:99", address: "10.9.9.9/24", gateway: "10.9.9.1" },
  ...{ dns_servers: ["10.9.9.2"], search_domains: ["own.example"], vlan_id: 99 },
  ...{ vlan_by: "switch", guest_bridge: "brown", host_bridge: "hostbr" },
  ...{ ssh_user: "me", ssh_keys: ["ssh-ed25519 AAAAown me"], ssh_from: ["10.9.0.0/16"] },
  ...{ egress_to: ["10.9.9.3/32"], proxy_url: "http://own:1", no_proxy: ["own.example"] },
  ca_certificates: ["-----BEGIN CERTIFICATE-----\nOWN=\n-----END CERTIFICATE-----\n"],
  ...{ engine: "nomad", orchestrator_url: "http://own:7700", join_token: "a-token-of-its-own" },
  ...{ pool: "own", slots: 9, drain_ms: 99_000, install_dir: "/opt/own", state_dir: "/var/own" },
  ...{ memory_max_percent: 50, tasks_max: 999, allows_user_namespaces: true },
  ...{ nomad_servers: ["10.9.9.4:4647"], nomad_region: "own", nomad_datacenter: "own" },
  ...{ nomad_meta: ["own=1"], has_desktop: false, vnc_geometry: "999x999" },
  ...{ gpu_addresses: ["0000:99:00.0"], gpu_packages: ["own-driver"] },
};
/** What a variable is seen with: most of them with all that a worker can have. */
const WITH: Readonly<Record<string, Layer>> = {
  nomad_servers: NOMAD,
  nomad_region: NOMAD,
  nomad_datacenter: NOMAD,
  nomad_meta: NOMAD,
  pool: NOMAD,
  network: Object.fromEntries(
    Object.entries(FULL).filter(([name]) => name !== "address" && name !== "network"),
  ),
  engine: { ...FULL, nomad_servers: ["10.9.9.4:4647"] },
};
/** What has to be set with it. */
const TOO: Readonly<Record<string, Layer>> = { network: { address: "10.9.9.9/24" } };
/** What the disk is made with, and no file says. */
const IN_NO_FILE = new Set<string>(["disk_gib"]);

for (const name of VARIABLE_NAMES) {
  test(`${name}: by the environment and by a file, and then in the VM's files`, async () => {
    const value = VALUES[name];
    assert.notEqual(value, undefined, "give it a value here");
    const own = { [name]: value };
    const text = Array.isArray(value) ? value.join(",") : String(value);
    // A list's parts are trimmed: commas part them in the environment.
    const trimmed = Array.isArray(value) ? value.map((each) => each.trim()) : value;
    const variable = `AUTOCODE_VM_${name.toUpperCase()}`;
    assert.deepEqual(environmentLayer({ [variable]: text }), { [name]: trimmed });
    assert.deepEqual(parseLayer(stringify(own), "vm.yaml"), own);
    if (IN_NO_FILE.has(name)) return;

    const others = WITH[name] ?? FULL;
    const catalog = await readCatalog([]);
    const files = (...layers: readonly Layer[]) =>
      JSON.stringify(renderTemplate(catalog, "gpu-worker", layers));
    assert.notEqual(files(others, own, TOO[name] ?? {}), files(others));
  });
}
