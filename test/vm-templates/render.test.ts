/**
 * Goal: each template renders to the files that were reviewed, a hostile value stays a value, and
 * what is undefined is told with template, line and variable.
 *
 * Method: goldens of each template; templates of a person's own in a folder, broken in each way.
 */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import test from "node:test";
import fc from "fast-check";
import { parse as parseYaml } from "yaml";
import { readCatalog } from "../../vm-templates/catalog.ts";
import { renderTemplate } from "../../vm-templates/render.ts";
import { type Layer, TemplateFault } from "../../vm-templates/variables.ts";
import { FULL, GOLDENS, NEEDED, NOMAD } from "./settings.ts";

const GOLDEN_DIR = resolve(import.meta.dirname, "../golden/vm");

for (const { golden, template, layer } of GOLDENS) {
  test(`${golden}: its files are the ones we reviewed`, async (t) => {
    const folder = join(GOLDEN_DIR, golden);
    const files = renderTemplate(await readCatalog([]), template, [layer]);
    await mkdir(folder, { recursive: true });
    for (const { name, text } of files) {
      t.assert.fileSnapshot(text, join(folder, name), { serializers: [String] });
    }
    assert.deepEqual((await readdir(folder)).sort(), files.map(({ name }) => name).sort());
  });
}

test("what holds the join token is for its owner alone; scripts can be run", async () => {
  const files = renderTemplate(await readCatalog([]), "gpu-worker", [FULL]);
  for (const { name, text, mode } of files) {
    if (text.includes(String(NEEDED.join_token))) assert.equal(name, "user-data");
    const expected = name === "user-data" ? 0o600 : name.endsWith(".sh") ? 0o755 : 0o644;
    assert.equal(mode, expected, name);
  }
});

test("whatever a free text holds, it stays one value of its file", async () => {
  const catalog = await readCatalog([]);
  const anyText = fc.string({ unit: "binary" }).filter((text) => text.isWellFormed());
  fc.assert(
    fc.property(anyText, (text) => {
      const layer: Layer = { ...NOMAD, nomad_region: text, join_token: text };
      const files = new Map(
        renderTemplate(catalog, "worker", [layer]).map((file) => [file.name, file.text]),
      );
      const userData = parseYaml(files.get("user-data") ?? "") as {
        write_files: { path: string; content: string }[];
      };
      const client = userData.write_files.find(({ path }) => path === "/etc/nomad.d/client.hcl");
      assert.equal(client?.content, files.get("client.hcl"));
      const [, region = ""] = /^region {5}= (".*")$/m.exec(client?.content ?? "") ?? [];
      assert.equal(JSON.parse(region), text);
      assert.equal(client?.content.split("\n").length, 30);
    }),
    { numRuns: 8 },
  );
  fc.assert(
    fc.property(anyText, (text) => {
      const files = renderTemplate(catalog, "worker", [{ ...NEEDED, join_token: text }]);
      const userData = files.find(({ name }) => name === "user-data");
      const { write_files: written } = parseYaml(userData?.text ?? "") as {
        write_files: { path: string; content: string }[];
      };
      assert.equal(written.find(({ path }) => path.endsWith("join-token"))?.content, text);
    }),
    { numRuns: 8 },
  );
});

test("a value that nobody gave is told with template, line and variable", async () => {
  const catalog = await readCatalog([]);
  assert.throws(
    () => renderTemplate(catalog, "worker", [{ join_token: "abcdefgh" }]),
    /^TemplateFault: worker\/worker\.env\.njk:2: orchestrator_url is undefined: must be an http or https address; set it in a file, by AUTOCODE_VM_ORCHESTRATOR_URL or by --set$/,
  );
  assert.throws(
    () => renderTemplate(catalog, "gpu-worker", [{ orchestrator_url: "http://a" }]),
    /^TemplateFault: worker\/user-data\.njk:\d+: join_token is undefined: /,
  );
  assert.throws(
    () => renderTemplate(catalog, "office", []),
    /^TemplateFault: there is no VM template "office"; there are base, gpu-worker, ubuntu, worker$/,
  );
});

test("templates of one's own: they extend ours, and their faults are told", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "autocode-vm-templates-"));
  t.after(() => rm(folder, { recursive: true }));
  const render = async (files: Record<string, string>): Promise<Map<string, string>> => {
    const root = await mkdtemp(join(folder, "set-"));
    for (const [name, text] of Object.entries(files)) {
      await mkdir(dirname(join(root, name)), { recursive: true });
      await writeFile(join(root, name), text);
    }
    const made = renderTemplate(await readCatalog([root]), "mine", [NEEDED]);
    return new Map(made.map((file) => [file.name, file.text]));
  };
  const manifest = "extends: worker\nsummary: Mine\ncpus: 2\n";

  const made = await render({
    "mine/template.yaml": manifest,
    "mine/user-data.njk":
      '{% extends "worker/user-data.njk" %}{% block commands %}{{ super() }}\n  - [{{ name | yaml }}]\n{% endblock %}',
    "mine/motd.njk": "{% for host in no_proxy %}{{ host | sh }} {% endfor %}{{ cpus | plain }}\n",
  });
  assert.match(
    made.get("user-data") ?? "",
    /autocode-worker\.service\]\n.*\n {2}- \["autocode-worker"\]/,
  );
  assert.equal(made.get("motd"), "localhost 127.0.0.1 ::1 2\n");
  assert.match(made.get("run.sh") ?? "", /-smp 2 /);

  const faults: readonly [Record<string, string>, RegExp][] = [
    [
      { "mine/a.njk": "\n\n{{ cpu | yaml }}" },
      /^mine\/a\.njk:3: cpu is no variable, and nothing sets it$/,
    ],
    [
      { "mine/a.njk": "{% if false %}\n{{ cpu | yaml }}{% endif %}" },
      /^mine\/a\.njk:2: cpu is no variable/,
    ],
    [
      { "mine/a.njk": "x\n{{ name }}" },
      /^mine\/a\.njk:2: a value must end with one of the filters yaml, block, /,
    ],
    [{ "mine/a.njk": "{{ name | upper }}" }, /^mine\/a\.njk:1: a value must end with one of/],
    [
      { "mine/a.njk": '{% include "parts/none.njk" %}' },
      /^mine\/a\.njk: uses parts\/none\.njk, and there is no such template$/,
    ],
    [{ "mine/a.njk": "{% if %}" }, /^mine\/a\.njk:1: /],
    [{ "mine/a.njk": "a\n{% macro m() %}{% endmacro %}" }, /^mine\/a\.njk:2: macros are not used/],
    [{ "mine/a.njk": "{{ rendered('none') | yaml }}" }, /mine has no file none/],
    [
      {
        "mine/a.njk":
          "\n{{ ssh_from | plain }}{{ join_token | unit }}{{ no_proxy | plain }}{{ nomad_region | xml }}{{ time_zone | plain }}{{ vnc_geometry | hcl }}{{ ssh_keys | yaml }}{{ proxy_url | sh }}{{ ca_certificates | yaml }}{{ address | yaml }}",
      },
      /^mine\/a\.njk:2: address is undefined/,
    ],
    [{ "mine/template.yaml": "extends: yours\n" }, /^there is no VM template "yours"/],
    [
      { "mine/template.yaml": "extends: mine\n" },
      /^mine\/template\.yaml: extends: mine extends itself$/,
    ],
    [
      { "mine/template.yaml": "extends: base\ncpu: 1\n" },
      /^mine\/template\.yaml:2: cpu: unknown variable/,
    ],
    [
      { "worker/user-data.njk": "x" },
      /there is a worker\/user-data\.njk already; take another name$/,
    ],
  ];
  for (const [files, message] of faults) {
    await assert.rejects(render({ "mine/template.yaml": manifest, ...files }), (error) => {
      assert.ok(error instanceof TemplateFault, String(error));
      assert.match(error.message, message);
      return true;
    });
  }
  await assert.rejects(readCatalog([join(folder, "none")]), /cannot be read \(ENOENT\)$/);
  await assert.rejects(readCatalog([folder]), /no folder there has a template\.yaml/);
});

test("a value that a format cannot hold is told with its variable", async () => {
  const catalog = await readCatalog([]);
  assert.throws(
    () => renderTemplate(catalog, "base", [{ name: "a\u0001b" }]),
    /^TemplateFault: base\/domain\.xml\.njk:2: name: a control character cannot be written into XML/,
  );
});
