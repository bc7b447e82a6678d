/**
 * Makes a VM's files of a template and its variables. A template extends another one: it has all
 * the other's files, and a file of its own under the same name is taken instead, which may in turn
 * extend the other's and change only some of its blocks. Pure: what it reads was read before.
 */
import nunjucks from "nunjucks";
import type { Catalog, Template } from "./catalog.ts";
import { ESCAPERS } from "./escape.ts";
import { scanTemplate } from "./scan.ts";
import {
  describe,
  type Layer,
  mergeLayers,
  TemplateFault,
  VARIABLE_NAMES,
  type Variable,
} from "./variables.ts";

export interface RenderedFile {
  name: string;
  text: string;
  /** 0600 for what may hold the join token. */
  mode: number;
}

/** nunjucks' own view of a source. */
interface LoadedSource {
  src: string;
  path: string;
  noCache: boolean;
}

/** Of the variables that no layer has a value for. */
type Unset = Readonly<Record<"toString", () => string>>;

/**
 * The files of `name`, in the order of their names; one that renders to nothing is left out.
 *
 * @param layers later ones win; the templates' own defaults lie under them.
 * @throws TemplateFault naming the template, the line and the variable.
 */
export function renderTemplate(
  catalog: Catalog,
  name: string,
  layers: readonly Layer[],
): RenderedFile[] {
  const chain = chainOf(catalog, name);
  const defaults = chain.toReversed().map(({ layer }) => layer);
  const values = mergeLayers([...defaults, ...layers]);
  const sources = new Map<string, string>();
  for (const { files } of chain.toReversed()) {
    for (const file of files.keys()) sources.set(file, nearestSource(chain, file));
  }
  const scans = scanAll(catalog, [...sources.values()]);
  const render = createRenderer(catalog, { template: name, values, sources, scans });
  return [...sources.keys()]
    .sort()
    .map((file) => ({ name: file, text: render(file), mode: modeOf(file) }))
    .filter(({ text }) => text.trim() !== "");
}

/** A template and all that it extends, the template first. @throws TemplateFault */
export function chainOf(catalog: Catalog, name: string): Template[] {
  const chain: Template[] = [];
  for (let next: string | null = name; next !== null; ) {
    const template = catalog.templates.get(next);
    if (template === undefined) {
      const known = [...catalog.templates.keys()].join(", ");
      throw new TemplateFault(`there is no VM template "${next}"; there are ${known}`);
    }
    if (chain.includes(template)) {
      throw new TemplateFault(`${next}/template.yaml: extends: ${next} extends itself`);
    }
    chain.push(template);
    next = template.extends;
  }
  return chain;
}

function nearestSource(chain: readonly Template[], file: string): string {
  const owner = chain.find(({ files }) => files.has(file));
  return owner?.files.get(file) ?? "";
}

type Scans = ReadonlyMap<string, ReturnType<typeof scanTemplate>>;

/** Scans the sources and all that they use. @throws TemplateFault */
function scanAll({ sources }: Catalog, roots: readonly string[]): Scans {
  const scans = new Map<string, ReturnType<typeof scanTemplate>>();
  const waiting = roots.map((path) => ({ path, from: path }));
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const { path, from } = next;
    if (scans.has(path)) continue;
    const source = sources.get(path);
    if (source === undefined) {
      throw new TemplateFault(`${from}: uses ${path}, and there is no such template`);
    }
    const scan = scanTemplate(path, source);
    scans.set(path, scan);
    waiting.push(...scan.uses.map((used) => ({ path: used, from: path })));
  }
  return scans;
}

function createRenderer(
  catalog: Catalog,
  scope: {
    template: string;
    values: Layer;
    sources: ReadonlyMap<string, string>;
    scans: Scans;
  },
): (file: string) => string {
  const { template, values, sources, scans } = scope;
  /** What was being written when something failed: a name, or the value itself. */
  let failing: { name: string } | { value: unknown } | null = null;
  /** What was wrong in a file that another one has within itself. */
  let told: TemplateFault | null = null;
  const environment = new nunjucks.Environment([{ getSource }] as unknown as nunjucks.ILoader[], {
    autoescape: false,
    throwOnUndefined: true,
    trimBlocks: true,
    lstripBlocks: true,
  });
  for (const [name, escaper] of Object.entries(ESCAPERS)) {
    environment.addFilter(name, (value: unknown, parameter?: unknown) => {
      failing = { value };
      const text = escaper(value, parameter);
      failing = null;
      return text;
    });
  }
  environment.addGlobal("rendered", render);
  const known = Object.fromEntries(
    VARIABLE_NAMES.map((name) => [name, values[name] ?? unset(name)]),
  );
  const context = { ...known, template, ...proxyParts(values.proxy_url ?? "") };
  return render;

  function render(file: string): string {
    const path = sources.get(file);
    if (path === undefined) throw new TemplateFault(`${template} has no file ${file}`);
    try {
      return environment.render(path, context);
    } catch (cause) {
      if (told === null) {
        told = new TemplateFault(explain(path, cause as Error));
        told.cause = cause;
      }
      throw told;
    }
  }

  function getSource(path: string): LoadedSource {
    return { src: catalog.sources.get(path) ?? "", path, noCache: true };
  }

  function unset(name: string): Unset {
    return {
      toString() {
        failing = { name };
        throw new TemplateFault(`${name} is not set`);
      },
    };
  }

  function explain(path: string, error: Error): string {
    const words =
      error.message
        .split("\n")
        .at(-1)
        ?.trim()
        .replace(/^TemplateFault: /, "") ?? "";
    if (failing === null) return `${path}: ${error.message.replaceAll("\n", " ")}`;
    if ("name" in failing) {
      const { name } = failing;
      const way = `set it in a file, by AUTOCODE_VM_${name.toUpperCase()} or by --set`;
      return `${place(path, name)}: ${name} is undefined: must be ${describe(name)}; ${way}`;
    }
    const { value } = failing;
    const name = VARIABLE_NAMES.find((each) => [values[each]].flat().includes(value as never));
    return name === undefined ? `${path}: ${words}` : `${place(path, name)}: ${name}: ${words}`;
  }

  /** The template and line that mentions `name`, of `path` and all that it uses. */
  function place(path: string, name: Variable | string): string {
    const waiting = [path];
    for (const next of waiting) {
      const scan = scans.get(next);
      const mention = scan?.mentions.find((each) => each.name === name);
      if (mention !== undefined) return `${next}:${mention.line}`;
      waiting.push(...(scan?.uses ?? []));
    }
    return path;
  }
}

/** The proxy as Java wants it: in parts, a port always named. */
function proxyParts(url: string): { proxy_host: string; proxy_port: string } {
  if (url === "") return { proxy_host: "", proxy_port: "" };
  const { hostname, port, protocol } = new URL(url);
  return { proxy_host: hostname, proxy_port: port || (protocol === "https:" ? "443" : "80") };
}

function modeOf(file: string): number {
  if (file === "user-data") return 0o600;
  return file.endsWith(".sh") ? 0o755 : 0o644;
}
