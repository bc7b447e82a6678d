/** What trials left behind, listed and brought here: one trial's, or a whole project's. */
import { createWriteStream } from "node:fs";
import { access, mkdir, rename, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import type { Artefact, ArtefactList } from "../../contract/artefacts.ts";
import type { TrialPage } from "../../contract/trials.ts";
import type { Client } from "../client.ts";
import { type Command, type Invocation, JSON_OPTION } from "../command.ts";
import { EXIT, Failure, usage } from "../failure.ts";
import { compact } from "../tables.ts";

const TRIAL = { name: "trial", isRequired: true };
/** As the API takes them: none can be a way to another folder. */
const NAME = /^[a-z0-9][a-z0-9._-]{0,99}$/;
const ID = /^trial_[0-9a-z]{1,40}$/;
const PAGE = 200;

const DOWNLOAD_OPTIONS = {
  name: {
    type: "string",
    multiple: true,
    value: "<artefact>",
    help: "These alone, such as changes.patch",
  },
  to: { type: "string", value: "<folder>", help: "The folder to put them into (its name)" },
  force: { type: "boolean", help: "Write over files that are there" },
  json: JSON_OPTION,
} as const;

interface Written {
  trial: string;
  name: string;
  file: string;
  byte_count: number;
}

export const trialArtefacts: Command = {
  name: "trial artefacts",
  summary: "List what a trial left behind",
  positionals: [TRIAL],
  options: { json: JSON_OPTION },
  async run({ positionals: [id = ""], options, print, connect }) {
    const client = await connect();
    const artefacts = await newestOf(client, id);
    if (options.flag("json")) print.json(artefacts);
    else {
      print.table<Artefact>(
        [
          { title: "artefact", value: ({ name }) => name, shrinks: true },
          { title: "bytes", value: ({ byte_count: bytes }) => compact(bytes), align: "right" },
          { title: "updated", value: ({ updated_at: at }) => at },
        ],
        artefacts,
      );
    }
    return EXIT.done;
  },
};

export const trialDownload: Command = {
  name: "trial download",
  summary: "Write what a trial left behind into a folder",
  positionals: [TRIAL],
  options: DOWNLOAD_OPTIONS,
  async run(invocation) {
    const [id = ""] = invocation.positionals;
    const client = await invocation.connect();
    const folder = folderOf(invocation, id);
    return tell(invocation, await download(invocation, client, { id, folder }));
  },
};

export const projectDownload: Command = {
  name: "project download",
  summary: "Write what all trials of a project left behind into a folder, one for each trial",
  positionals: [{ name: "project", isRequired: true }],
  options: DOWNLOAD_OPTIONS,
  async run(invocation) {
    const [project = ""] = invocation.positionals;
    const client = await invocation.connect();
    await client.get(`projects/${encodeURIComponent(project)}`);
    const folder = folderOf(invocation, project);
    const written: Written[] = [];
    for await (const id of trialsOf(client, project)) {
      const own = await download(invocation, client, { id, folder: join(folder, id) });
      written.push(...own);
      invocation.print.progress(`${written.length} files`, "downloading");
    }
    invocation.print.clearProgress();
    return tell(invocation, written);
  },
};

function folderOf({ options, config }: Invocation, name: string): string {
  const to = options.text("to") ?? name;
  if (to === "" || /[/\\]/.test(name))
    throw usage(`--to is missing: "${name}" is no folder's name`);
  return resolve(config.cwd, to);
}

async function download(
  { options }: Invocation,
  client: Client,
  { id, folder }: { id: string; folder: string },
): Promise<Written[]> {
  if (!ID.test(id)) throw usage(`"${id}" is no trial's id`);
  const wanted = options.list("name");
  const found = await newestOf(client, id);
  const chosen = found.filter(({ name }) => wanted.length === 0 || wanted.includes(name));
  const written: Written[] = [];
  for (const { name } of chosen) {
    if (!NAME.test(name)) throw new Failure(EXIT.failed, `"${name}" is no artefact's name`);
    const file = join(folder, name);
    const isThere = await access(file).then(
      () => true,
      () => false,
    );
    if (isThere && !options.flag("force")) {
      throw new Failure(EXIT.failed, `${file} is there already: --force writes over it`);
    }
    await mkdir(folder, { recursive: true });
    written.push({ trial: id, name, file, byte_count: await write(client, { id, name, file }) });
  }
  return written;
}

/** A file has its name once all of it is there. */
async function write(
  client: Client,
  { id, name, file }: { id: string; name: string; file: string },
): Promise<number> {
  const unfinished = `${file}.part`;
  const out = createWriteStream(unfinished, { mode: 0o600 });
  try {
    await pipeline(await client.bytes(`trials/${id}/artefacts/${encodeURIComponent(name)}`), out);
    await rename(unfinished, file);
  } catch (error) {
    await rm(unfinished, { force: true });
    throw error;
  }
  return out.bytesWritten;
}

/** Of each name the newest, which is the one that the server hands out. */
async function newestOf(client: Client, id: string): Promise<Artefact[]> {
  const path = `trials/${encodeURIComponent(id)}/artefacts`;
  const { artefacts } = await client.get<ArtefactList>(path);
  const newest = artefacts.toSorted((a, b) => (a.updated_at < b.updated_at ? -1 : 1));
  const byName = new Map(newest.map((artefact) => [artefact.name, artefact]));
  return [...byName.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

async function* trialsOf(client: Client, project: string): AsyncGenerator<string> {
  for (let before: string | null = ""; before !== null; ) {
    const query = new URLSearchParams({ project, limit: String(PAGE) });
    if (before !== "") query.set("before", before);
    const page: TrialPage = await client.get<TrialPage>(`trials?${query}`);
    for (const { id } of page.trials) yield id;
    before = page.next_cursor;
  }
}

function tell({ options, print }: Invocation, written: readonly Written[]) {
  if (options.flag("json")) print.json(written);
  else if (written.length === 0) print.line("nothing was left behind");
  else for (const { file } of written) print.line(file);
  return EXIT.done;
}
