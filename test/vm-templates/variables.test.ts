/** Goal: each wrong value is told with its place and what to do; later layers win. */
import assert from "node:assert/strict";
import test from "node:test";
import {
  argumentLayer,
  describe,
  environmentLayer,
  mergeLayers,
  parseLayer,
  parseManifest,
  TemplateFault,
  VARIABLE_NAMES,
} from "../../vm-templates/variables.ts";

function says(work: () => unknown, message: string): void {
  assert.throws(work, (error) => {
    assert.ok(error instanceof TemplateFault);
    assert.equal(error.message, message);
    return true;
  });
}

test("a file: its faults are told with file, line and field", () => {
  const cases: readonly [string, string][] = [
    ["cpus: 4\ncpus: 5\n", "vm.yaml:2: Map keys must be unique"],
    ["- cpus\n", "vm.yaml:1: must be a mapping of variables, such as `cpus: 64`"],
    ["cpus: 4\n\ncpu: 5\n", "vm.yaml:3: cpu: unknown variable; known: cpus"],
    ["cpus: 0\n", "vm.yaml:1: cpus: must be a whole number from 1 to 1024: virtual CPUs"],
    ['cpus: "4"\n', "vm.yaml:1: cpus: must be a whole number from 1 to 1024: virtual CPUs"],
    [
      "# one\nmac: 53:00:00:00:00:00\n",
      "vm.yaml:2: mac: must be a MAC address of a single machine, or empty",
    ],
    ["dns_servers: 1.1.1.1\n", "vm.yaml:1: dns_servers: must be a list of addresses"],
    ["name: A_b\n", "vm.yaml:1: name: must be a host name: lower-case letters, digits and dashes"],
    ["network: fixed\n", "vm.yaml:1: network: must be dhcp or static"],
    ["proxy_url: 'ftp://a'\n", "vm.yaml:1: proxy_url: must be an http or https address, or empty"],
    [
      "ca_certificates: [no]\n",
      "vm.yaml:1: ca_certificates: must be a list of certificates in PEM",
    ],
    ['nomad_region: "\\uD800"\n', "vm.yaml:1: nomad_region: must be a region's name"],
  ];
  for (const [text, message] of cases) says(() => parseLayer(text, "vm.yaml"), message);
  assert.deepEqual(parseLayer("", "vm.yaml"), {});
  assert.deepEqual(parseLayer("cpus: 2\nssh_from: [10.1.0.0/16]\n", "vm.yaml"), {
    cpus: 2,
    ssh_from: ["10.1.0.0/16"],
  });
});

test("the environment and arguments: texts become what the variable is", () => {
  assert.deepEqual(
    environmentLayer({
      AUTOCODE_VM_CPUS: "8",
      AUTOCODE_VM_HAS_DESKTOP: "true",
      AUTOCODE_VM_DNS_SERVERS: "10.0.0.1, fd00::1",
      AUTOCODE_VM_PACKAGES: "",
      AUTOCODE_HOME: "not ours",
    }),
    { cpus: 8, has_desktop: true, dns_servers: ["10.0.0.1", "fd00::1"], packages: [] },
  );
  says(
    () => environmentLayer({ AUTOCODE_VM_MEMORY_MIB: "8 GB" }),
    "AUTOCODE_VM_MEMORY_MIB: memory_mib: must be a whole number from 512 to 16777216: MiB of memory",
  );
  says(
    () => environmentLayer({ AUTOCODE_VM_MEMORY: "1" }),
    "AUTOCODE_VM_MEMORY: memory: unknown variable; known: memory_mib, memory_max_percent",
  );
  assert.deepEqual(argumentLayer(["nomad_meta=a=b,c=d", "name=x"]), {
    nomad_meta: ["a=b", "c=d"],
    name: "x",
  });
  says(() => argumentLayer(["cpus"]), "--set cpus: must be name=value");
  says(
    () => argumentLayer(["join_token=abcdefgh"]),
    "--set join_token: a list of processes would show it; set AUTOCODE_VM_JOIN_TOKEN or write it into a file",
  );
});

test("layers: the last one wins, and what does not fit together is told", () => {
  assert.deepEqual(mergeLayers([{ cpus: 64, slots: 4 }, { cpus: 8 }, { slots: 2 }]), {
    cpus: 8,
    slots: 2,
  });
  const cases: readonly [Parameters<typeof mergeLayers>[0], string][] = [
    [[{ network: "static" }], "address: must be set where network is static"],
    [
      [{ network: "dhcp", address: "10.0.0.2/24" }],
      "address: must not be set where network is dhcp; set network: static",
    ],
    [[{ vlan_by: "switch", vlan_id: 0 }], "vlan_by: switch needs vlan_id and host_bridge"],
    [
      [{ engine: "nomad", nomad_servers: [] }],
      "nomad_servers: must name a server where engine is nomad",
    ],
  ];
  for (const [layers, message] of cases) says(() => mergeLayers(layers), message);
});

test("a template's own file: what it extends, and its variables", () => {
  assert.deepEqual(
    parseManifest("extends: worker\nsummary: Mine\ncpus: 2\n", "mine/template.yaml"),
    {
      extends: "worker",
      summary: "Mine",
      layer: { cpus: 2 },
    },
  );
  says(
    () => parseManifest("summary: a\nextends: ../x\n", "mine/template.yaml"),
    "mine/template.yaml:2: extends: must match ^[a-z0-9][a-z0-9-]{0,62}$",
  );
  for (const name of VARIABLE_NAMES)
    assert.match(describe(name) ?? "", /^(an?|the|true|dhcp|guest|fleet) /);
});
