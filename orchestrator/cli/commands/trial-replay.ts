/** `autocode trial replay`: a trial again, from its record; or its record, to keep. */
import { readFile, writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import type { Cassette } from "../../contract/cassettes.ts";
import type { Trial } from "../../contract/trials.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import { EXIT, usage } from "../failure.ts";
import { tellMade } from "./trial-run.ts";

export const trialReplay: Command = {
  name: "trial replay",
  summary: "Run a trial again with its recorded answers: offline, and free",
  positionals: [{ name: "trial", isRequired: false }],
  options: {
    cassette: {
      type: "string",
      value: "<file>",
      help: "Answer from a file that --export-cassette wrote",
    },
    project: { type: "string", value: "<name>", help: "With --cassette: whose task it is" },
    "export-cassette": {
      type: "string",
      value: "<file>",
      help: "Write what it was answered, as JSON; runs nothing",
    },
    "export-script": {
      type: "string",
      value: "<file>",
      help: "Write a script for the scripted model, as YAML; runs nothing",
    },
    detach: { type: "boolean", short: "d", help: "Do not wait for its end" },
    json: JSON_OPTION,
  },
  notes: [
    "The same agent, task, pair and seed; its models and hosts are not asked. What it asks that the",
    "record has not is refused, and told: `trial show` names the first difference.",
    "A cassette is a regression test of its task: the exit status is 0 where the tests pass again.",
  ],
  async run({ positionals: [id], options, config, print, connect }) {
    const given = options.text("cassette");
    if (given !== undefined) {
      const project = options.text("project");
      for (const name of ["export-cassette", "export-script"] as const) {
        if (options.text(name) !== undefined) throw usage(`--${name} is of a trial, not of a file`);
      }
      if (id !== undefined) throw usage(`give a trial (${id}) or --cassette, not both`);
      if (project === undefined) throw usage("--cassette needs --project: whose task it is");
      const cassette = await readCassette(config.cwd, given);
      const client = await connect();
      const made = await client.post<Trial>("cassettes/replay", { project, cassette });
      const { agent, pair, task, verdict } = cassette.trial;
      const about = `${made.id}: ${agent} with ${pair} on ${task}, replays ${given}`;
      print.note(`recorded as ${cassette.trial.id}, verdict ${verdict ?? "none"}`);
      return tellMade({ options, print }, client, made, about);
    }
    if (id === undefined) throw usage("give a trial's id, or --cassette <file> --project <name>");
    if (options.text("project") !== undefined) throw usage("--project is for --cassette alone");
    const cassetteFile = options.text("export-cassette");
    const scriptFile = options.text("export-script");
    const client = await connect();
    const path = `trials/${encodeURIComponent(id)}`;
    if (cassetteFile !== undefined) {
      const cassette = await client.get<Cassette>(`${path}/cassette`);
      await write(config.cwd, cassetteFile, `${JSON.stringify(cassette, null, 2)}\n`);
      print.note(`${cassetteFile}: ${cassette.exchanges.length} exchanges of ${id}`);
    }
    if (scriptFile !== undefined) {
      await write(config.cwd, scriptFile, await client.text(`${path}/script`));
      print.note(`${scriptFile}: put it into the folder that AUTOCODE_SCRIPTS names`);
    }
    if (cassetteFile !== undefined || scriptFile !== undefined) return EXIT.done;
    const made = await client.post<Trial>(`${path}/replay`);
    const about = `${made.id}: ${made.agent} with ${made.pair} on ${made.task}, replays ${id}`;
    return tellMade({ options, print }, client, made, about);
  },
};

/** The server reads the rest of it; what is no cassette at all is told here, with what to do. */
async function readCassette(cwd: string, file: string): Promise<Cassette> {
  const text = await readFile(resolve(cwd, file), "utf8").catch((cause: NodeJS.ErrnoException) => {
    throw usage(`${file} cannot be read (${cause.code})`);
  });
  let read: Partial<Cassette> | null;
  try {
    read = JSON.parse(text) as Partial<Cassette> | null;
  } catch (error) {
    throw usage(`${file} is no JSON: ${(error as Error).message}`);
  }
  const hasTrial = typeof read === "object" && typeof read?.trial === "object";
  if (!hasTrial || read?.trial === null || !Array.isArray(read?.exchanges)) {
    throw usage(`${file} is no cassette: make one with trial replay <id> --export-cassette <file>`);
  }
  if (read.schema_version !== 1) {
    throw usage(`${file}: schema_version is ${read.schema_version}; this program reads version 1`);
  }
  return read as Cassette;
}

async function write(cwd: string, file: string, text: string): Promise<void> {
  await writeFile(resolve(cwd, file), text).catch((cause: NodeJS.ErrnoException) => {
    throw usage(`${file} cannot be written (${cause.code})`);
  });
}
