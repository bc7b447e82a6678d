/** VM templates: what there is, their files, whether those are right, and a VM made of them. */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { buildVm } from "../../../vm-templates/build.ts";
import { type Catalog, readCatalog } from "../../../vm-templates/catalog.ts";
import { chainOf, type RenderedFile, renderTemplate } from "../../../vm-templates/render.ts";
import { type Finding, validateFiles } from "../../../vm-templates/validate.ts";
import {
  argumentLayer,
  environmentLayer,
  type Layer,
  mergeLayers,
  parseLayer,
  TemplateFault,
} from "../../../vm-templates/variables.ts";
import { type Command, type Invocation, JSON_OPTION, type Option } from "../command.ts";
import { EXIT, Failure, usage } from "../failure.ts";

const PROJECT_FILE = "vm.yaml";
const FIRST = "worker";

const TEMPLATES: Option = {
  type: "string",
  multiple: true,
  value: "<folder>",
  help: "Templates of your own: a folder of them",
};
const VARIABLES: Readonly<Record<string, Option>> = {
  set: {
    type: "string",
    multiple: true,
    value: "<name=value>",
    help: "A variable; lists with commas",
  },
  file: { type: "string", multiple: true, value: "<file>", help: `Variables (${PROJECT_FILE})` },
  templates: TEMPLATES,
};
const NOTES = [
  "A variable's value: --set, else AUTOCODE_VM_<NAME>, else the project's file, else the",
  "installation's shared/configs/vm.yaml, else the template's own.",
];

export const vmLs: Command = {
  name: "vm ls",
  summary: "List the VM templates: what each extends, and its figures",
  options: { templates: TEMPLATES, json: JSON_OPTION },
  async run({ options, print }) {
    const catalog = await orUsage(() => readCatalog(options.list("templates")));
    const rows = [...catalog.templates.values()].map(({ name, extends: parent, summary }) => {
      const layers = chainOf(catalog, name).toReversed();
      const { cpus, memory_mib, disk_gib } = mergeLayers(layers.map(({ layer }) => layer));
      return { name, extends: parent, cpus, memory_mib, disk_gib, summary };
    });
    if (options.flag("json")) print.json(rows);
    else {
      print.table<(typeof rows)[number]>(
        [
          { title: "template", value: ({ name }) => name },
          { title: "extends", value: (row) => row.extends ?? "-" },
          { title: "cpu", value: ({ cpus }) => String(cpus), align: "right" },
          { title: "MiB", value: ({ memory_mib: size }) => String(size), align: "right" },
          { title: "GiB", value: ({ disk_gib: size }) => String(size), align: "right" },
          { title: "what it is", value: ({ summary }) => summary, shrinks: true },
        ],
        rows,
      );
    }
    return EXIT.done;
  },
};

export const vmRender: Command = {
  name: "vm render",
  summary: "Write a VM's files: cloud-init, network, units, firewall, qemu and libvirt",
  positionals: [{ name: "template", isRequired: false }],
  options: {
    out: { type: "string", value: "<folder>", help: "Where to; without it, the names alone" },
    ...VARIABLES,
  },
  notes: NOTES,
  async run({ positionals: [template = FIRST], options, print, config }) {
    const { files } = await rendered({ options, config }, template);
    const out = options.text("out");
    if (out === undefined) {
      for (const { name } of files) print.line(name);
      print.note("--out <folder> writes them; user-data may hold the join token");
      return EXIT.done;
    }
    const folder = resolve(config.cwd, out);
    await mkdir(folder, { recursive: true });
    for (const { name, text, mode } of files) {
      await writeFile(join(folder, name), text, { mode });
      print.line(join(out, name));
    }
    return EXIT.done;
  },
};

export const vmValidate: Command = {
  name: "vm validate",
  summary: "Check a VM's files by cloud-init, systemd-analyze, libvirt and nft, where present",
  positionals: [{ name: "template", isRequired: false }],
  options: { ...VARIABLES, json: JSON_OPTION },
  notes: NOTES,
  async run({ positionals: [template = FIRST], options, print, config }) {
    const { files } = await rendered({ options, config }, template);
    using interrupt = onInterrupt();
    const findings = await orInterrupted(interrupt.signal, () =>
      validateFiles(files, {
        signal: interrupt.signal,
        onCheck: (what) => print.progress(what, what),
      }),
    );
    print.clearProgress();
    if (options.flag("json")) print.json(findings);
    else {
      print.table<Finding>(
        [
          { title: "file", value: ({ file }) => file },
          { title: "check", value: ({ check }) => check },
          { title: "", value: ({ outcome }) => outcome },
          { title: "said", value: ({ detail }) => detail, shrinks: true },
        ],
        findings,
      );
    }
    const failed = findings.filter(({ outcome }) => outcome === "failed");
    if (failed.length === 0) return EXIT.done;
    const words = failed.map(({ file, check, detail }) => `${file}: ${check}: ${detail}`);
    throw new Failure(EXIT.failed, words.join("\n"));
  },
};

export const vmBuild: Command = {
  name: "vm build",
  summary: "Make a VM: its disk from an image or by debootstrap, its seed, and how to run it",
  positionals: [{ name: "template", isRequired: false }],
  options: {
    out: { type: "string", value: "<folder>", help: "The folder to make" },
    base: { type: "string", value: "<image>", help: "A cloud image, or a folder made before" },
    debootstrap: { type: "string", value: "<release>", help: "Make the disk of packages, as root" },
    mirror: { type: "string", value: "<url>", help: "With --debootstrap: else apt's own" },
    ...VARIABLES,
  },
  notes: [...NOTES, "Then: sh <folder>/run.sh, or virsh define <folder>/domain.xml"],
  async run({ positionals: [template = FIRST], options, print, config }) {
    const out = options.required("out");
    const base = options.text("base");
    const suite = options.text("debootstrap");
    if ((base === undefined) === (suite === undefined)) {
      throw usage("name one of --base <image> and --debootstrap <release>");
    }
    const { files, values } = await rendered({ options, config }, template);
    const isWorker = files.some(({ name }) => name === "install.sh");
    using interrupt = onInterrupt();
    const made = await orInterrupted(interrupt.signal, () =>
      buildVm({
        outDir: resolve(config.cwd, out),
        files,
        diskGib: values.disk_gib ?? 0,
        from:
          suite === undefined
            ? { image: resolve(config.cwd, base ?? "") }
            : { root: rootOf(suite, options.text("mirror"), values, interrupt.signal) },
        checkoutDir: isWorker ? config.rootDir : null,
        signal: interrupt.signal,
        onProgress: (step, detail) => print.progress(`${step}: ${detail}`, step),
      }),
    );
    for (const name of made) print.line(join(out, name));
    return EXIT.done;

    function rootOf(
      release: string,
      mirror: string | undefined,
      layer: Layer,
      signal: AbortSignal,
    ) {
      const packages = layer.packages ?? [];
      const onProgress = (step: string, detail: string) => print.progress(detail, step);
      return { suite: release, mirror: mirror ?? null, packages, signal, onProgress };
    }
  },
};

/** The template's files and the values that they were made with. @throws Failure: usage. */
function rendered(
  { options, config }: Pick<Invocation, "options" | "config">,
  template: string,
): Promise<{ files: RenderedFile[]; values: Layer }> {
  return orUsage(async () => {
    const folders = options.list("templates").map((folder) => resolve(config.cwd, folder));
    const catalog: Catalog = await readCatalog(folders);
    const named = options.list("file");
    const layers = [
      await fileLayer(config.vmFile, "if there"),
      ...(named.length > 0
        ? await Promise.all(named.map((name) => fileLayer(resolve(config.cwd, name), "must")))
        : [await fileLayer(join(config.cwd, PROJECT_FILE), "if there")]),
      environmentLayer(config.vmEnv),
      argumentLayer(options.each("set")),
    ];
    const files = renderTemplate(catalog, template, layers);
    const chain = chainOf(catalog, template).toReversed();
    return { files, values: mergeLayers([...chain.map(({ layer }) => layer), ...layers]) };
  });
}

async function fileLayer(path: string, when: "must" | "if there"): Promise<Layer> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT" && when === "if there") return {};
    throw usage(`${path}: cannot be read (${code})`);
  }
  return parseLayer(text, path);
}

async function orUsage<Result>(work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof TemplateFault) throw usage(error.message);
    throw error;
  }
}

/** Ends what runs at the first Ctrl-C, and says so once it has ended. */
async function orInterrupted<Result>(
  signal: AbortSignal,
  work: () => Promise<Result>,
): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    if (signal.aborted) throw new Failure(EXIT.failed, "interrupted: nothing is left of it", error);
    if (error instanceof TemplateFault) throw new Failure(EXIT.failed, error.message, error);
    throw error;
  }
}

function onInterrupt(): { signal: AbortSignal } & Disposable {
  const stopping = new AbortController();
  const abort = () => stopping.abort();
  for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, abort);
  return {
    signal: stopping.signal,
    [Symbol.dispose]() {
      for (const name of ["SIGINT", "SIGTERM"] as const) process.off(name, abort);
    },
  };
}
