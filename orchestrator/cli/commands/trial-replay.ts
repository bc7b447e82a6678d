/** `autocode trial replay`: a trial again, from its record; or its record, to keep. */
import { writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import type { Cassette } from "../../contract/cassettes.ts";
import type { Trial } from "../../contract/trials.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import { EXIT, usage } from "../failure.ts";
import { tellMade } from "./trial-run.ts";

export const trialReplay: Command = {
  name: "trial replay",
  summary: "Run a trial again with its recorded answers: offline, and free",
  positionals: [{ name: "trial", isRequired: true }],
  options: {
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
  ],
  async run({ positionals: [id = ""], options, config, print, connect }) {
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

async function write(cwd: string, file: string, text: string): Promise<void> {
  await writeFile(resolve(cwd, file), text).catch((cause: NodeJS.ErrnoException) => {
    throw usage(`${file} cannot be written (${cause.code})`);
  });
}
