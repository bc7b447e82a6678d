/**
 * Goal: the laws of the house that a machine can check hold for every file.
 *
 * Method: the tracked files are read as text; comments and strings are blanked out where a law is
 * about code. Each law lists every offence, so that one run shows all there is to mend.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { stripTypeScriptTypes } from "node:module";
import { posix } from "node:path";
import { test } from "node:test";
import { blankOut } from "./tidy/blank-out.ts";
import * as exceptions from "./tidy/exceptions.ts";
import { functionLengths } from "./tidy/functions.ts";
import { refusedBy } from "./tidy/rooms.ts";
import { importsOf, listFiles, readSources, readText, type SourceFile } from "./tidy/sources.ts";

const FILE_LINES_MAX = 500;
const FUNCTION_LINES_MAX = 70;
const COLUMNS_MAX = 100;

const files = listFiles();
const sources = readSources(files);
const product = sources.filter(({ path }) => !/^(test|tools|bin)\//.test(path));
/** What others wrote, or a tool did: no law is about its words. */
const RECORDED =
  /^package-lock\.json$|^LICENSE$|^docs\/(images|first-run\.cast)|^test\/golden\/|\/fixtures\/|\.snapshot$|\.(png|svg|ico|woff2?)$/;
/** A quoted text may hold what a comment may not: TAP's directives, a currency's code. */
const STRING = /"(?:[^"\\]|\\.)*"/g;
const texts = files.filter((path) => !RECORDED.test(path));

test("imports go downwards only", () => {
  const excused = new Set<string>();
  const offences = sources.flatMap((source) =>
    importsOf(source).flatMap(({ target }) => {
      const room = target === null ? null : refusedBy(source.path, target);
      const edge = `${source.path} -> ${target}`;
      if (room === null) return [];
      if (edge in exceptions.IMPORTS) excused.add(edge);
      return edge in exceptions.IMPORTS ? [] : [`${edge} (${room})`];
    }),
  );
  none(offences);
  assert.deepEqual([...excused].sort(), Object.keys(exceptions.IMPORTS).sort());
});

test("an adapter never imports another adapter of its port", () => {
  const offences = adapters().flatMap(({ path, port }) => {
    const source = sources.find((other) => other.path === path);
    const rivals = adapters().filter((other) => other.port === port && other.path !== path);
    const imported = source === undefined ? [] : importsOf(source).map(({ target }) => target);
    return rivals
      .filter((rival) => imported.includes(rival.path))
      .map((r) => `${path} -> ${r.path}`);
  });
  // The embedded PostgreSQL is the same adapter, with a server of ours behind it.
  const own = "orchestrator/db/embedded.ts -> orchestrator/db/postgres.ts";
  none(offences.filter((offence) => offence !== own));
});

test("nothing imports itself in a circle", () => {
  const graph = new Map(sources.map((source) => [source.path, importsOf(source)]));
  const done = new Set<string>();
  const offences: string[] = [];
  for (const { path } of sources) visit(path, []);
  none(offences);

  function visit(path: string, way: readonly string[]): void {
    if (way.includes(path)) offences.push([...way.slice(way.indexOf(path)), path].join(" -> "));
    if (done.has(path) || way.includes(path)) return;
    for (const { target } of graph.get(path) ?? [])
      if (target !== null) visit(target, [...way, path]);
    done.add(path);
  }
});

test("no two advisory locks have one number", () => {
  const owners = new Map<string, string[]>();
  const unnamed: string[] = [];
  for (const { path, text } of product) {
    for (const [, name, number = ""] of text.matchAll(/\bconst (\w*_LOCK) = ([\d_]+);/g)) {
      const key = number.replaceAll("_", "");
      owners.set(key, [...(owners.get(key) ?? []), `${path}: ${name}`]);
    }
    // Those of two keys and those of a hash are in spaces of their own, or nobody's.
    for (const [, given = ""] of text.matchAll(/pg_\w*advisory\w*lock\w*\(([^),]*)/g)) {
      if (!/^(\$\{\w*_LOCK\}|\$1|hashtextextended\()/.test(given))
        unnamed.push(`${path}: ${given}`);
    }
  }
  assert.ok(owners.size >= 5, `${owners.size} found`);
  none(unnamed);
  none(
    [...owners].filter(([, all]) => all.length > 1).map(([n, all]) => `${n}: ${all.join(", ")}`),
  );
});

test("every package that is imported is declared", () => {
  const manifest = JSON.parse(readText("package.json"));
  const shipped = new Set(Object.keys(manifest.dependencies));
  const all = new Set([...shipped, ...Object.keys(manifest.devDependencies)]);
  none(
    sources.flatMap((source) => {
      const declared = product.includes(source) ? shipped : all;
      // A page's packages come from its import map.
      if (source.path.startsWith("dashboards/web/app/")) return [];
      return importsOf(source)
        .filter(({ target, specifier }) => target === null && !specifier.startsWith("node:"))
        .map(({ specifier }) => specifier.split("/").slice(0, specifier[0] === "@" ? 2 : 1))
        .filter((parts) => !declared.has(parts.join("/")))
        .map((parts) => `${source.path}: ${parts.join("/")}`);
    }),
  );
});

test(`a file has at most ${FILE_LINES_MAX} lines`, () => {
  none(
    sources
      .map(({ path, text }) => ({ path, lineCount: text.split("\n").length - 1 }))
      .filter(({ lineCount }) => lineCount > FILE_LINES_MAX)
      .map(({ path, lineCount }) => `${path}: ${lineCount}`),
  );
});

// Not in tests: a table of cases is no function to be understood.
test(`a function has at most ${FUNCTION_LINES_MAX} lines`, () => {
  const excused = new Set<string>();
  const untested = sources.filter(({ path }) => !path.startsWith("test/"));
  const offences = untested.flatMap((source) =>
    functionLengths(source)
      .filter(({ lineCount }) => lineCount > FUNCTION_LINES_MAX)
      .map(({ line, lineCount }) => {
        const name = /function (\w+)/.exec(source.text.split("\n")[line - 1] ?? "")?.[1] ?? line;
        return { key: `${source.path}: ${name}`, lineCount };
      }),
  );
  for (const { key } of offences) if (key in exceptions.FUNCTIONS) excused.add(key);
  none(
    offences
      .filter(({ key }) => !excused.has(key))
      .map(({ key, lineCount }) => `${key}: ${lineCount}`),
  );
  assert.deepEqual([...excused].sort(), Object.keys(exceptions.FUNCTIONS).sort());
});

// Biome breaks code; what it cannot break is one long text or pattern, and that may stand.
test(`a line has at most ${COLUMNS_MAX} columns`, () => {
  const codes = new Map(sources.map(({ path, code }) => [path, code.split("\n")]));
  const wide = [...codes.keys(), ...texts.filter((path) => /\.(sql|css)$/.test(path))];
  none(
    wide.flatMap((path) =>
      numberedLines(readText(path))
        .filter(({ line }) => line.length > COLUMNS_MAX)
        .filter(({ line, number }) => {
          const isComment = /^\s*(\/\/|\/?\*)/.test(line);
          const rest = codes.get(path)?.[number - 1]?.trim().replaceAll(/ {3,}/g, "");
          return isComment || rest === undefined || rest.length > COLUMNS_MAX / 2;
        })
        .map(({ line, number }) => `${path}:${number}: ${line.length}`),
    ),
  );
});

test("no default exports, enums, namespaces, parameter properties or barrels", () => {
  const banned: readonly [RegExp, string][] = [
    [/^export default\b/m, "a default export"],
    [/^\s*(export )?(declare )?(const )?enum \w/m, "an enum"],
    [/^\s*(export )?(declare )?namespace \w/m, "a namespace"],
    [/constructor\([^)]*\b(private|public|protected|readonly) \w/m, "a parameter property"],
    [/^export (type )?(\*|\{[^}]*\}) from\b/m, "a re-export"],
  ];
  none(
    sources.flatMap(({ path, code }) =>
      banned.filter(([pattern]) => pattern.test(code)).map(([, what]) => `${path}: ${what}`),
    ),
  );
  none(files.filter((path) => /(^|\/)index\.(ts|js|mjs)$/.test(path)));
});

test("words that stand in one place only", () => {
  const banned: readonly { word: RegExp; where: RegExp; instead: string }[] = [
    {
      word: /\bDate\.now\b|\bnew Date\(\)|\bMath\.random\b|\brandomUUID\b/,
      where: /^(orchestrator\/runtime\/|worker-agent\/(host\/)?main\.ts$)/,
      instead: "take the clock, or the random numbers, as a parameter",
    },
    {
      word: /\bprocess\.env\b/,
      where:
        /^(orchestrator\/(cli\/)?config\.ts|worker-agent\/(host\/)?config\.ts|models\/scripted\/main\.ts)$/,
      instead: "read it in config.ts",
    },
    { word: /\bconsole\./, where: /^orchestrator\/cli\/print\.ts$/, instead: "print or log" },
  ];
  none(
    product.flatMap(({ path, code }) =>
      numberedLines(code).flatMap(({ line, number }) =>
        banned
          .filter(({ word, where }) => word.test(line) && !where.test(path))
          .map(({ instead }) => `${path}:${number}: ${instead}`),
      ),
    ),
  );
});

test("no name says nothing", () => {
  const empty = /(^|[/._-])(utils?|helpers?|common|managers?|misc)(?=[/._-]|$)/;
  none(files.filter((path) => empty.test(path)));
});

test("nothing is left for later, and no machine's own path or registry is named", () => {
  const later = new RegExp(
    `\\b(${["TO", "FIX", "X"].map((a, i) => a + ["DO", "ME", "XX"][i]).join("|")})\\b`,
  );
  const machine =
    /(?<![\w.-])\/(?:work|root)\/[\w.]|\bregistry\.(?:npmjs|yarnpkg)\b|\bpypi\.(?:org|python)\b|\bpythonhosted\b/;
  // Public registries are what this one lets workers reach, by name.
  const named = "proxy/egress/presets.ts";
  none(
    texts.flatMap((path) =>
      numberedLines(path === named ? "" : readText(path))
        .filter(({ line }) => later.test(line.replaceAll(STRING, '""')) || machine.test(line))
        .map(({ number }) => `${path}:${number}`),
    ),
  );
});

test("every source file with logic is run by a test of its own folder", () => {
  const graph = new Map(sources.map((source) => [source.path, runtimeImports(source)]));
  const tests = files.filter((path) => path.endsWith(".test.ts"));
  const reached = new Map(tests.map((path) => [path, reachedFrom(path, graph)]));
  const excused = new Set<string>();
  const offences = product.filter(hasLogic).flatMap(({ path }) => {
    const mirror = `test/${path.split("/").slice(0, -1).slice(0, 2).join("/")}/`;
    const isRun = tests.some(
      (file) => file.startsWith(mirror) && (reached.get(file)?.has(path) ?? false),
    );
    if (isRun || files.includes(`test/${path.replace(/\.\w+$/, ".test.ts")}`)) return [];
    const excuse = Object.keys(exceptions.TESTED_ELSEWHERE).find((key) => path.startsWith(key));
    if (excuse === undefined) return [path];
    excused.add(excuse);
    const driver = exceptions.TESTED_ELSEWHERE[excuse] ?? "";
    return files.includes(driver) ? [] : [`${path}: there is no ${driver}`];
  });
  none(offences);
  assert.deepEqual([...excused].sort(), Object.keys(exceptions.TESTED_ELSEWHERE).sort());
});

test("a port with two adapters has a conformance suite, which each adapter's test calls", () => {
  const ports = new Set(adapters().map(({ port }) => port));
  none(
    [...ports].flatMap((port) => {
      const own = adapters().filter((adapter) => adapter.port === port);
      const suite = `test/${posix.dirname(port)}/conformance.ts`;
      if (own.length < 2) return [];
      if (!files.includes(suite)) return [`${port} has ${own.length} adapters and no ${suite}`];
      return own
        .map(({ path }) => `test/${path.replace(/\.ts$/, ".test.ts")}`)
        .filter((path) => !files.includes(path) || !readText(path).includes("conformance.ts"))
        .map((path) => `${path} does not call ${suite}`);
    }),
  );
});

test("every agent, command, route and background task is in its registry", () => {
  const registries: readonly { of: RegExp; exports: RegExp; registry: string }[] = [
    {
      of: /^worker-agent\/agents\//,
      exports: /^export const (\w+): Agent = /gm,
      registry: "worker-agent/agents/registry.ts",
    },
    {
      of: /^orchestrator\/cli\/commands\//,
      exports: /^export const (\w+): Command = /gm,
      registry: "orchestrator/cli/main.ts",
    },
    {
      of: /^orchestrator\/api\/routes\//,
      exports: /^export function (\w+Routes)\b/gm,
      registry: "orchestrator/api/server.ts",
    },
  ];
  for (const { of, exports, registry } of registries) {
    const code = blankOut(readText(registry)).replaceAll(/^import [^;]*;/gm, "");
    const found = sources
      .filter(({ path }) => of.test(path))
      .flatMap(({ text, path }) =>
        [...text.matchAll(exports)].map(([, name = ""]) => ({ name, path })),
      );
    assert.ok(found.length > 2, `${registry}: what belongs into it is no longer recognised`);
    none(
      found
        .filter(({ name }) => !new RegExp(`\\b${name}\\b`).test(code))
        .map(({ name, path }) => `${path}: ${name} is not in ${registry}`),
    );
  }
});

test("a page of documentation has one title", () => {
  none(
    texts
      .filter((path) => path.endsWith(".md") && !path.startsWith("examples/tasks/"))
      .map((path) => ({
        path,
        count: readText(path)
          .replaceAll(/^```[\s\S]*?^```/gm, "")
          .match(/^# \S/gm)?.length,
      }))
      .filter(({ count }) => count !== 1)
      .map(({ path, count = 0 }) => `${path}: ${count} titles`),
  );
});

test("a migration that has landed never changes", () => {
  const landed = new Map(
    readText("test/golden/migrations.sha256")
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => line.split("  "))
      .map(([hash = "", name = ""]) => [name, hash]),
  );
  const names = files
    .filter((path) => /^orchestrator\/db\/migrations\/.*\.sql$/.test(path))
    .map((path) => posix.basename(path));
  assert.deepEqual(
    names.map((name) => name.slice(0, 4)),
    names.map((_, index) => String(index + 1).padStart(4, "0")),
    "migrations are numbered without gaps",
  );
  none([...landed.keys()].filter((name) => !names.includes(name)).map((name) => `${name} is gone`));
  none(
    names.flatMap((name) => {
      const text = readText(`orchestrator/db/migrations/${name}`);
      const hash = createHash("sha256").update(text).digest("hex");
      if (landed.get(name) === hash) return [];
      const line = `${hash}  ${name}`;
      return [
        landed.has(name)
          ? `${name} changed after it landed: write the next one instead`
          : `append to test/golden/migrations.sha256: ${line}`,
      ];
    }),
  );
});

test("the laws bite: each offence in a made-up file is seen", () => {
  const text = [
    'import { a, type B } from "../ledger/postgres.ts"; // Date.now()',
    `const said = \`Math.random() $\{Date.now(/[/"]/.test(\`a\`)) } console.log\`;`,
    "export function long(",
    "  a: string,",
    "): Promise<{ b: 1 }> {",
    ...Array.from({ length: 71 }, (_, index) => `  call(${index});`),
    "  return inner(() => {",
    "    one();",
    "  });",
    "}",
  ].join("\n");
  const path = "orchestrator/keys/made-up.ts";
  const code = blankOut(text);

  assert.equal(code.length, text.length);
  assert.deepEqual(code.match(/Date\.now|Math\.random|console/g), ["Date.now"]);
  assert.deepEqual(functionLengths({ path, text, code }), [
    { line: 3, lineCount: 75 },
    { line: 77, lineCount: 3 },
  ]);
  const [imported] = importsOf({ path, text });
  assert.deepEqual(imported, {
    specifier: "../ledger/postgres.ts",
    target: "orchestrator/ledger/postgres.ts",
    isTypeOnly: false,
  });
  assert.equal(refusedBy(path, "orchestrator/ledger/postgres.ts"), "orchestrator/");
  assert.equal(refusedBy(path, "orchestrator/ledger/ledger.ts"), null);
  assert.equal(refusedBy("worker-agent/main.ts", "orchestrator/money.ts"), "worker-agent/");
  assert.equal(
    refusedBy("orchestrator/cli/main.ts", "orchestrator/db/rows.ts"),
    "orchestrator/cli/",
  );
});

function none(offences: readonly string[]): void {
  assert.equal(offences.join("\n"), "");
}

function numberedLines(text: string): { line: string; number: number }[] {
  return text.split("\n").map((line, index) => ({ line, number: index + 1 }));
}

function runtimeImports(source: SourceFile): string[] {
  return importsOf(source).flatMap(({ target, isTypeOnly }) =>
    target === null || isTypeOnly ? [] : [target],
  );
}

/** Everything that a file loads, and what that loads. */
function reachedFrom(path: string, graph: ReadonlyMap<string, readonly string[]>): Set<string> {
  const reached = new Set<string>();
  const waiting = [path];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    if (reached.has(next)) continue;
    reached.add(next);
    waiting.push(...(graph.get(next) ?? []));
  }
  return reached;
}

/** Whether anything of the file is left to run once its types are gone. */
function hasLogic({ path, text }: SourceFile): boolean {
  const plain = path.endsWith(".ts") ? stripTypeScriptTypes(text) : text;
  return /\bfunction\b|=>|\bclass\b/.test(blankOut(plain));
}

/** Files of a folder that export a factory of what its port file declares. */
function adapters(): { path: string; port: string }[] {
  return sources.flatMap(({ path: port, text }) => {
    const folder = posix.dirname(port);
    const isPort = port === `${folder}/${posix.basename(folder)}.ts`;
    const isDatabase = port === "orchestrator/db/database.ts";
    if ((!isPort && !isDatabase) || !product.some(({ path }) => path === port)) return [];
    const names = [...text.matchAll(/^export interface (\w+)/gm)].map(([, name]) => name);
    if (names.length === 0) return [];
    const made = new RegExp(
      `^export (?:async )?function (?:create|open)\\w*\\([^;]*?\\): (?:Promise<)?(?:${names.join("|")})\\b`,
      "m",
    );
    return product
      .filter(({ path, text: other }) => posix.dirname(path) === folder && made.test(other))
      .filter(({ path }) => path !== port)
      .map(({ path }) => ({ path, port }));
  });
}
