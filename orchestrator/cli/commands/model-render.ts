/** `model render`: a planned pair as files and commands that run without us. */
import { mkdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { RenderedPair, RenderForm, RenderRequest } from "../../contract/model-render.ts";
import { type Command, JSON_OPTION, type Values } from "../command.ts";
import { EXIT, usage } from "../failure.ts";
import type { Printer } from "../print.ts";
import { PLAN_OPTIONS, planRequest } from "./model-plan.ts";

const FORMS: readonly RenderForm[] = ["vllm", "ray", "nomad", "compose"];

export const modelRender: Command = {
  name: "model render",
  summary: "Print a planned pair as files and commands that you run by hand",
  positionals: [{ name: "pair", isRequired: true }],
  options: {
    as: { type: "string", value: "<form>", help: "vllm (scripts), ray, nomad or compose" },
    out: { type: "string", value: "<folder>", help: "Write the files there" },
    ...PLAN_OPTIONS,
    json: JSON_OPTION,
  },
  notes: ["Nothing is started, and no secret is in what is printed."],
  async run({ positionals: [pair = ""], options, config, print, connect }) {
    const as = formOf(options);
    const client = await connect();
    const request: RenderRequest = { plan: await planRequest(pair, options, client), as };
    const rendered = await client.post<RenderedPair>("models/render", request);
    const out = options.text("out");
    if (out !== undefined) await writeFiles(rendered, resolve(config.cwd, out));
    if (options.flag("json")) print.json(rendered);
    else printRendered(print, rendered, out);
    return EXIT.done;
  },
};

/** @throws Failure: usage. */
function formOf(options: Values): RenderForm {
  const text = options.required("as");
  const form = FORMS.find((each) => each === text);
  if (form === undefined) throw usage(`--as: "${text}" is none of ${FORMS.join(", ")}`);
  return form;
}

async function writeFiles({ files }: RenderedPair, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const { name, text } of files) await writeFile(join(folder, name), text);
}

function printRendered(
  print: Printer,
  { files, commands, notes }: RenderedPair,
  out: string | undefined,
): void {
  for (const { name, text } of files) {
    print.line(out === undefined ? `# ${name}` : `# ${join(out, name)}: written`);
    if (out === undefined) for (const line of text.trimEnd().split("\n")) print.line(line);
    print.line("");
  }
  print.line("# Run:");
  for (const command of commands) print.line(command);
  for (const note of notes) print.note(note);
}
