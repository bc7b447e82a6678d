/**
 * Goal: what is documented is what is there: every variable, key, command status and link.
 *
 * Method: names are read off the code and looked for in the pages, so that a new one without its
 * row fails here. The published JSON Schema is written anew by `npm run golden`.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { EgressLayer } from "../../orchestrator/contract/egress.ts";
import { FlowRecord } from "../../orchestrator/contract/flows.ts";
import { EXPORT_FORMAT, ExportRecord } from "../../orchestrator/contract/ledger.ts";
import { ProjectFile, UnitsText } from "../../orchestrator/contract/projects.ts";
import { listFiles } from "../tidy/sources.ts";

const ROOT = join(import.meta.dirname, "../..");
const operating = await read("docs/operating.md");

test("the published schema of autocode.yaml is the one that is checked", (t) => {
  // YAML's 0.50 is a number to an editor; the parser takes its digits as they are written.
  const units: { pattern: string } = JSON.parse(JSON.stringify(UnitsText));
  const asInYaml = (_key: string, value: { pattern?: string } | null) =>
    value?.pattern === units.pattern ? { ...value, type: ["string", "number"] } : value;
  const schema = {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "autocode.yaml",
    ...JSON.parse(JSON.stringify(ProjectFile), asInYaml),
  };
  t.assert.fileSnapshot(schema, join(ROOT, "docs/schemas/autocode.schema.json"), {
    serializers: [(value: unknown) => JSON.stringify(value, null, 2)],
  });
});

test("the published schema of a file of egress rules is the one that is checked", (t) => {
  const schema = {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "egress.yaml",
    ...JSON.parse(JSON.stringify(EgressLayer)),
  };
  t.assert.fileSnapshot(schema, join(ROOT, "docs/schemas/egress.schema.json"), {
    serializers: [(value: unknown) => JSON.stringify(value, null, 2)],
  });
});

test("the published schema of a flow's record is the one that is checked", (t) => {
  const schema = {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "autocode flow v1",
    ...JSON.parse(JSON.stringify(FlowRecord)),
  };
  t.assert.fileSnapshot(schema, join(ROOT, "docs/schemas/flow.schema.json"), {
    serializers: [(value: unknown) => JSON.stringify(value, null, 2)],
  });
});

test("the published schema of the ledger's export is the one that is checked", (t) => {
  const schema = {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: EXPORT_FORMAT,
    ...JSON.parse(JSON.stringify(ExportRecord)),
  };
  t.assert.fileSnapshot(schema, join(ROOT, "docs/schemas/ledger-export.schema.json"), {
    serializers: [(value: unknown) => JSON.stringify(value, null, 2)],
  });
});

test("every environment variable has its place in docs/operating.md", async () => {
  const files = [
    "orchestrator/config.ts",
    "orchestrator/config-engines.ts",
    "orchestrator/config-serving.ts",
    "orchestrator/cli/config.ts",
    "worker-agent/config.ts",
  ];
  const texts = await Promise.all(files.map(read));
  const named = texts.flatMap((text) =>
    text.match(/\b(AUTOCODE|OPENAI|ANTHROPIC|VLLM|VAULT)_[A-Z_]+/g),
  );
  const names = new Set([...named, "DATABASE_URL", "NO_COLOR"]);

  assert.ok(names.size > 15);
  assert.deepEqual(
    [...names].filter((name) => name !== null && !operating.includes(`\`${name}`)),
    [],
  );
});

test("every key of the project file has its row in docs/operating.md", () => {
  const keys = keysOf(ProjectFile as Schema);

  assert.ok(keys.includes("models.<pair>.<side>.price"));
  assert.deepEqual(
    keys.filter((key) => !operating.includes(`| \`${key}\` |`)),
    [],
  );
});

test("every documented command line is one that the help has, with its options", async () => {
  const pages = (await read("test/golden/cli-help.txt")).split("\n---\n");
  const help = new Map(
    pages.flatMap((page) => {
      const [, name] = /^Usage: autocode ([a-z -]+[a-z])/m.exec(page) ?? [];
      return name === undefined ? [] : [[name, page] as const];
    }),
  );
  const paths = listFiles().filter((path) =>
    /^(docs\/.*|[A-Z]+)\.md$|^nomad-jobs\/.*\.hcl$/.test(path),
  );
  const documented = await Promise.all(
    paths.map(async (path) => commandLines(await read(path)).map((line) => ({ path, line }))),
  );
  const lines = documented.flat();

  assert.ok(help.size > 60 && lines.length > 100, `${help.size} commands, ${lines.length} lines`);
  assert.deepEqual(
    lines.flatMap(({ path, line }) => {
      const fault = faultOf(line, help);
      return fault === null ? [] : [`${path}: ${line}: ${fault}`];
    }),
    [],
  );
});

test("every link of a page leads somewhere", async () => {
  const pages = listFiles().filter((path) => /^(docs\/.*|[A-Z]+)\.md$/.test(path));
  const dead = await Promise.all(
    pages.map(async (page) => {
      const links = [...(await read(page)).matchAll(/\]\(([^)#\s:]+)(?:#[^)]*)?\)/g)];
      return links
        .map(([, link = ""]) => join(dirname(page), link))
        .filter((path) => !existsSync(join(ROOT, path)))
        .map((path) => `${page}: ${path}`);
    }),
  );
  assert.deepEqual(dead.flat(), []);
});

/** What follows `autocode ` in a page's code, and in what is quoted in its text. */
function commandLines(text: string): string[] {
  const joined = text.replaceAll(/ *\\\n[ #]*/g, " ");
  const inBlocks = [...joined.matchAll(/^[ #]*(?:[A-Z_]+=\S+ )*(?:npx )?autocode ([a-z].*)$/gm)];
  const quoted = [...joined.matchAll(/`(?:npx )?autocode\s([a-z][^`]*)`/g)];
  // A line of prose that begins with our name has words of no command's.
  const isCode = ({ index, 0: line }: RegExpMatchArray) =>
    /npx|^[ #]{3}/.test(line) || joined.slice(0, index).split("```").length % 2 === 0;
  return [...inBlocks.filter(isCode), ...quoted].flatMap(([, said = ""]) => {
    const line = said
      .replaceAll(/"[^"]*"|'[^']*'/g, "quoted")
      .replace(/\s(?:#|\||;|&&|→|…).*$/s, "")
      .replaceAll(/\s+/g, " ")
      .trim();
    // "worker ls|show" is two.
    const [, nouns = "", verbs] = /^((?:[a-z]+ )+)([a-z]+(?:\|[a-z]+)+)/.exec(line) ?? [];
    return verbs === undefined ? [line] : verbs.split("|").map((verb) => nouns + verb);
  });
}

/** Why a line is no command's; null where it is one, or the words that several begin with. */
function faultOf(line: string, help: ReadonlyMap<string, string>): string | null {
  const words = line.split(" ");
  const name = [3, 2, 1].map((count) => words.slice(0, count).join(" ")).find((n) => help.has(n));
  if (name === undefined) {
    return [...help.keys()].some((each) => each.startsWith(`${line} `)) ? null : "no such command";
  }
  const page = help.get(name) ?? "";
  const options = words.flatMap((word) => /^\[?(--?[a-z][a-z-]*)/.exec(word)?.[1] ?? []);
  const unknown = options.filter((option) => !new RegExp(` ${option}[ ,\n]`).test(page));
  return unknown.length === 0 ? null : `no option ${unknown.join(", ")}`;
}

function read(path: string): Promise<string> {
  return readFile(join(ROOT, path), "utf8");
}

interface Schema {
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly patternProperties?: Readonly<Record<string, Schema>>;
}

/** The keys that a row is for: leaves, with `<pair>` and `<side>` in place of what is free. */
function keysOf(schema: Schema, path: readonly string[] = []): string[] {
  const [free] = Object.values(schema.patternProperties ?? {});
  if (free !== undefined) return keysOf(free, [...path, "<pair>"]);
  const { properties } = schema;
  // A price is one row: what it is made of stands in it.
  if (properties === undefined || path.at(-1) === "price") return [path.join(".")];
  return Object.entries(properties).flatMap(([key, value]) =>
    keysOf(value, [...path, /^(normal|thinking)$/.test(key) ? "<side>" : key]),
  );
}
