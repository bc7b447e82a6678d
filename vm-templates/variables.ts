/**
 * What a VM's templates are filled with: one schema, and the layers that a value comes from. A
 * later layer wins: the template's own defaults, the installation's file, the project's file, the
 * environment (`AUTOCODE_VM_<NAME>`), then `--set`. Every fault is told with its place. Pure.
 */
import { type Static, type TSchema, Type } from "typebox";
import { Compile } from "typebox/compile";
import { isMap, isScalar, LineCounter, parseDocument } from "yaml";

const NAME = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";
const CIDR = "^[0-9a-fA-F:.]{2,45}/[0-9]{1,3}$";
const ADDRESS = "^[0-9a-fA-F:.]{2,45}$";
const MAC = "^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$|^$";
const HTTP = "^https?://[^\\s/]+(/\\S*)?$";
const LINE = "^[^\\u0000-\\u001f\\u007f]*$";
const INTERFACE = "^[A-Za-z][A-Za-z0-9_.-]{0,14}$";
const PEM =
  "^\\s*-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\\s]+-----END CERTIFICATE-----(\\s+-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\\s]+-----END CERTIFICATE-----)*\\s*$";

/** Each has a description that completes "must be …". No default here: templates have those. */
export type Variables = Static<typeof Variables>;
export const Variables = Type.Object(
  {
    name: text("a host name: lower-case letters, digits and dashes", NAME, 63),
    cpus: whole("virtual CPUs", 1, 1024),
    memory_mib: whole("MiB of memory", 512, 16_777_216),
    disk_gib: whole("GiB of disk", 2, 65_536),
    os_release: text("an Ubuntu release, such as 24.04", "^[0-9]{2}\\.(04|10)$", 5),
    time_zone: text("an IANA time zone, such as Etc/UTC", "^[A-Za-z0-9_+/-]{1,64}$", 64),
    packages: list("Debian packages", "^[a-z0-9][a-z0-9+.-]{1,100}$", 200),
    /** `false` for an image that has all packages, where no mirror can be reached. */
    installs_packages: yesNo("true or false"),

    network: choice("dhcp or static", ["dhcp", "static"]),
    mac: text("a MAC address of a single machine, or empty", MAC, 17),
    address: text("an address with its prefix, such as 10.20.0.5/24", CIDR, 49),
    gateway: text("an address, or empty", `${ADDRESS}|^$`, 45),
    dns_servers: list("addresses", ADDRESS, 8),
    search_domains: list("domain names", "^[A-Za-z0-9.-]{1,253}$", 8),
    vlan_id: whole("a VLAN's number, or 0 for none", 0, 4094),
    vlan_by: choice("guest or switch", ["guest", "switch"]),
    guest_bridge: text("a bridge's name inside the VM, or empty", `${INTERFACE}|^$`, 15),
    host_bridge: text("a bridge of the VM's host, or empty for qemu's own", `${INTERFACE}|^$`, 15),

    ssh_user: text("a user's name", "^[a-z_][a-z0-9_-]{0,31}$", 32),
    ssh_keys: list("public keys", "^(ssh-|ecdsa-|sk-)[!-~]+ [!-~]+( [^\\u0000-\\u001f]*)?$", 32),
    ssh_from: list("networks, such as 10.0.0.0/8", CIDR, 32),
    egress_to: list("networks that may be reached; none: all", CIDR, 64),
    proxy_url: text("an http or https address, or empty", `${HTTP}|^$`, 500),
    no_proxy: list("hosts, domains or networks", "^[A-Za-z0-9.:*/_-]{1,253}$", 64),
    ca_certificates: list("certificates in PEM", PEM, 32),

    engine: choice("fleet or nomad", ["fleet", "nomad"]),
    orchestrator_url: text("an http or https address", HTTP, 500),
    join_token: text("the text that `autocode worker token` printed", "^[!-~]{8,512}$", 512),
    pool: text("a pool's name", "^[a-z0-9][a-z0-9-]{0,62}$", 63),
    slots: whole("allocations at a time", 1, 1000),
    drain_ms: whole("milliseconds that running allocations get to end", 0, 86_400_000),
    install_dir: text("an absolute path", "^/[A-Za-z0-9_./-]{1,200}$", 200),
    state_dir: text("an absolute path", "^/[A-Za-z0-9_./-]{1,200}$", 200),
    memory_max_percent: whole("percent of the memory", 10, 95),
    tasks_max: whole("processes and threads", 64, 4_194_304),
    allows_user_namespaces: yesNo("true or false"),
    nomad_servers: list(
      "addresses with their port",
      "^[A-Za-z0-9.:\\[\\]-]{1,253}:[0-9]{1,5}$",
      16,
    ),
    nomad_region: text("a region's name", LINE, 100),
    nomad_datacenter: text("a datacentre's name", LINE, 100),
    nomad_meta: list("key=value", "^[A-Za-z_][A-Za-z0-9_.-]{0,62}=.{0,500}$", 64),

    has_desktop: yesNo("true or false"),
    vnc_geometry: text(
      "a width and a height, such as 1280x800",
      "^[1-9][0-9]{2,3}x[1-9][0-9]{2,3}$",
      9,
    ),
    gpu_addresses: list(
      "PCI addresses, such as 0000:65:00.0",
      "^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\\.[0-7]$",
      16,
    ),
    gpu_packages: list("Debian packages", "^[a-z0-9][a-z0-9+.-]{1,100}$", 50),
  },
  { additionalProperties: false },
);

export type Variable = keyof Variables;
/** Some of them; what is absent is taken from the layer below. */
export type Layer = Partial<Variables>;

/** What is shown in a list of processes, so not to be given as an argument. */
const SECRET: readonly Variable[] = ["join_token"];
const PREFIX = "AUTOCODE_VM_";
const SCHEMAS = Variables.properties as unknown as Record<
  string,
  TSchema & { description: string; type: string }
>;
const CHECKS = new Map(Object.entries(SCHEMAS).map(([name, schema]) => [name, Compile(schema)]));

/** A fault of what a person gave: one line naming its place, and what to do. */
export class TemplateFault extends Error {
  override readonly name = "TemplateFault";
}

export const VARIABLE_NAMES = Object.keys(SCHEMAS) as Variable[];

/** What a `template.yaml` says beside its variables. */
export interface Heading {
  extends: string | null;
  summary: string;
}
const HEADING: Readonly<Record<keyof Heading, RegExp>> = {
  extends: /^[a-z0-9][a-z0-9-]{0,62}$/,
  summary: /^[ -~]{1,100}$/,
};

/** A template's own file: what it extends, and its variables. @throws TemplateFault as a layer. */
export function parseManifest(yamlText: string, fileName: string): Heading & { layer: Layer } {
  const heading: Heading = { extends: null, summary: "" };
  const layer = readFile(yamlText, fileName, (name, value, place) => {
    if (name !== "extends" && name !== "summary") return false;
    if (typeof value !== "string" || !HEADING[name].test(value)) {
      throw new TemplateFault(`${place}: ${name}: must match ${HEADING[name].source}`);
    }
    heading[name] = value;
    return true;
  });
  return { ...heading, layer };
}

/**
 * The layer that a YAML file holds.
 *
 * @throws TemplateFault naming file, line and field.
 */
export function parseLayer(yamlText: string, fileName: string): Layer {
  return readFile(yamlText, fileName, () => false);
}

/** @param takes whether a key is something else than a variable, and read by that. */
function readFile(
  yamlText: string,
  fileName: string,
  takes: (name: string, value: unknown, place: string) => boolean,
): Layer {
  const lines = new LineCounter();
  const document = parseDocument(yamlText, { lineCounter: lines, prettyErrors: false });
  const [broken] = document.errors;
  if (broken !== undefined) {
    const [message = "not valid YAML"] = broken.message.split("\n");
    throw new TemplateFault(`${fileName}:${lines.linePos(broken.pos[0]).line}: ${message}`);
  }
  if (document.contents === null) return {};
  if (!isMap(document.contents)) {
    throw new TemplateFault(`${fileName}:1: must be a mapping of variables, such as \`cpus: 64\``);
  }
  const layer: Record<string, unknown> = {};
  const values = document.toJS({ maxAliasCount: 10 }) as Record<string, unknown>;
  for (const { key } of document.contents.items) {
    const name = isScalar(key) ? String(key.value) : "";
    const line = isScalar(key) && key.range ? lines.linePos(key.range[0]).line : 1;
    const place = `${fileName}:${line}`;
    if (!takes(name, values[name], place)) layer[name] = checked(name, values[name], place);
  }
  return layer as Layer;
}

/** The layer of the environment: lists with commas. @throws TemplateFault naming the variable. */
export function environmentLayer(env: Readonly<Record<string, string | undefined>>): Layer {
  const layer: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(env)) {
    if (!key.startsWith(PREFIX) || value === undefined) continue;
    const name = key.slice(PREFIX.length).toLowerCase();
    layer[name] = checked(name, fromText(name, value), key);
  }
  return layer as Layer;
}

/** The layer of `--set name=value`. @throws TemplateFault naming the argument. */
export function argumentLayer(settings: readonly string[]): Layer {
  const layer: Record<string, unknown> = {};
  for (const setting of settings) {
    const [, name = "", value = ""] = /^([^=]+)=([\s\S]*)$/.exec(setting) ?? [];
    if (name === "") throw new TemplateFault(`--set ${setting}: must be name=value`);
    if ((SECRET as readonly string[]).includes(name)) {
      const way = `set ${PREFIX}${name.toUpperCase()} or write it into a file`;
      throw new TemplateFault(`--set ${name}: a list of processes would show it; ${way}`);
    }
    layer[name] = checked(name, fromText(name, value), "--set");
  }
  return layer as Layer;
}

/**
 * One layer over the other, and the rules that are about several variables.
 *
 * @throws TemplateFault naming the variables that do not fit together.
 */
export function mergeLayers(layers: readonly Layer[]): Layer {
  const merged: Layer = Object.assign({}, ...layers);
  const { network, address, vlan_by, vlan_id, host_bridge, engine, nomad_servers } = merged;
  if (network === "static" && address === undefined) {
    throw new TemplateFault("address: must be set where network is static");
  }
  if (network === "dhcp" && address !== undefined) {
    throw new TemplateFault("address: must not be set where network is dhcp; set network: static");
  }
  if (vlan_by === "switch" && (vlan_id === 0 || host_bridge === "")) {
    throw new TemplateFault("vlan_by: switch needs vlan_id and host_bridge");
  }
  if (engine === "nomad" && (nomad_servers ?? []).length === 0) {
    throw new TemplateFault("nomad_servers: must name a server where engine is nomad");
  }
  return merged;
}

/** What `name` must be, for messages and lists; null when there is no such variable. */
export function describe(name: string): string | null {
  return SCHEMAS[name]?.description ?? null;
}

function checked(name: string, value: unknown, place: string): unknown {
  const schema = SCHEMAS[name];
  if (schema === undefined) {
    throw new TemplateFault(`${place}: ${name}: unknown variable; known: ${nearest(name)}`);
  }
  if (CHECKS.get(name)?.Check(value) === true && isWellFormed(value)) return value;
  throw new TemplateFault(`${place}: ${name}: must be ${schema.description}`);
}

/** A lone surrogate has no encoding, so no file could hold it. */
function isWellFormed(value: unknown): boolean {
  return [value].flat().every((each) => typeof each !== "string" || each.isWellFormed());
}

/** All the names where none is near: those that share the first letters come first. */
function nearest(name: string): string {
  const near = VARIABLE_NAMES.filter((known) => known.slice(0, 3) === name.slice(0, 3));
  return (near.length > 0 ? near : VARIABLE_NAMES).join(", ");
}

function fromText(name: string, value: string): unknown {
  const type = SCHEMAS[name]?.type;
  if (type === "integer") return /^-?\d{1,15}$/.test(value) ? Number(value) : value;
  if (type === "boolean") return value === "true" ? true : value === "false" ? false : value;
  if (type === "array") return value === "" ? [] : value.split(",").map((each) => each.trim());
  return value;
}

function text(description: string, pattern: string, maxLength: number) {
  return Type.String({ description, pattern, maxLength });
}

function whole(what: string, minimum: number, maximum: number) {
  const description = `a whole number from ${minimum} to ${maximum}: ${what}`;
  return Type.Integer({ description, minimum, maximum });
}

function yesNo(description: string) {
  return Type.Boolean({ description });
}

function list(what: string, pattern: string, maxItems: number) {
  const items = Type.String({ pattern, maxLength: 65_536 });
  return Type.Array(items, { description: `a list of ${what}`, maxItems });
}

function choice<const Names extends readonly string[]>(description: string, names: Names) {
  return Type.Unsafe<Names[number]>({ type: "string", enum: [...names], description });
}
