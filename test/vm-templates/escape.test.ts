/**
 * Goal: whatever a value is, a reader of the rendered file gets it back, and nothing beside it.
 *
 * Method: fast-check draws any text; a template writes it into each format; the format's own reader
 * (YAML of both versions, an XML parser, a shell) reads it. For unit files and HCL, whose readers
 * are not at hand, a decoder was written from systemd.syntax(7) and from HCL's specification.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { promisify } from "node:util";
import fc from "fast-check";
import { XMLParser } from "fast-xml-parser";
import { parse as parseYaml } from "yaml";
import { ESCAPERS } from "../../vm-templates/escape.ts";
import { TemplateFault } from "../../vm-templates/variables.ts";

const run = promisify(execFile);
/** Any text that has an encoding, full of what formats give a meaning to. */
const anyText = fc.oneof(
  fc.string({ unit: "binary" }).filter((text) => text.isWellFormed()),
  fc.string({ unit: fc.constantFrom(..."\"'\\$`%{}<>&;#:-|>\n\r\t =[]!*\u0085\u2028é😀\u007f") }),
);
const withoutNul = anyText.filter((text) => !text.includes("\0"));

function write(filter: string, value: unknown, parameter?: unknown): string {
  const escaper = ESCAPERS[filter];
  assert.ok(escaper !== undefined, filter);
  return escaper(value, parameter);
}

test("yaml: any text comes back, whichever version reads it, and no line is added", () => {
  fc.assert(
    fc.property(anyText, (text) => {
      const written = `a: ${write("yaml", text)}\nb: 1\n`;
      assert.equal(written.split("\n").length, 3);
      for (const version of ["1.1", "1.2"] as const) {
        assert.deepEqual(parseYaml(written, { version }), { a: text, b: 1 });
      }
    }),
  );
  fc.assert(
    fc.property(fc.array(anyText), (texts) => {
      assert.deepEqual(parseYaml(`a: ${write("yaml", texts)}\n`), { a: texts });
    }),
  );
});

test("block: any text comes back, within a list within a mapping", () => {
  const line = fc.string({ unit: fc.constantFrom(..."ab:#-'\"|> \t{}[]&*%") });
  const file = fc.array(line).map((lines) => `${lines.join("\n")}\n`);
  fc.assert(
    fc.property(fc.oneof(anyText, file), (text) => {
      const written = `w:\n  - p: x\n    content: ${write("block", text, 6)}\n  - p: y\nz: 1\n`;
      assert.deepEqual(parseYaml(written), { w: [{ p: "x", content: text }, { p: "y" }], z: 1 });
    }),
  );
  assert.equal(write("block", "#!/bin/sh\n\nexit 0\n", 2), "|\n  #!/bin/sh\n\n  exit 0");
});

test("xml: any text that XML can hold comes back from an element and from an attribute", () => {
  const parser = new XMLParser({
    ignoreAttributes: false,
    trimValues: false,
    parseTagValue: false,
    parseAttributeValue: false,
    htmlEntities: true,
  });
  fc.assert(
    fc.property(withoutNul, (text) => {
      let written: string;
      try {
        written = write("xml", text);
      } catch (error) {
        assert.ok(error instanceof TemplateFault);
        // biome-ignore lint/suspicious/noControlCharactersInRegex: what XML 1.0 cannot hold.
        assert.match(text, /[\u0001-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/);
        return;
      }
      assert.doesNotMatch(written, /[<>"'\n]/);
      const { e } = parser.parse(`<e a="${written}">x${written}</e>`) as {
        e: { "#text": string; "@_a": string };
      };
      assert.equal(e["#text"], `x${text}`);
      assert.equal(e["@_a"], text);
    }),
  );
});

test("sh and env: a shell reads any text back, and runs none of it", async () => {
  const folder = await mkdtemp(join(tmpdir(), "autocode-escape-"));
  const texts = fc.sample(withoutNul, 300);
  try {
    const words = texts.map((text) => `printf '%s\\0' ${write("sh", text)}\n`).join("");
    const assignments = texts.map((text, index) => `V${index}=${write("env", text)}\n`).join("");
    const shown = texts.map((_, index) => `printf '%s\\0' "$V${index}"\n`).join("");
    for (const script of [words, assignments + shown]) {
      await writeFile(join(folder, "script.sh"), script);
      const { stdout } = await run("sh", [join(folder, "script.sh")]);
      assert.deepEqual(stdout.split("\0").slice(0, -1), texts);
    }
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("unit: a quoted word that decodes to any text, of one line", () => {
  fc.assert(
    fc.property(withoutNul, (text) => {
      const written = write("unit", text);
      assert.doesNotMatch(written, /\n/);
      const decoded = written
        .slice(1, -1)
        .replaceAll(/\\x([0-9a-f]{2})|\\(.)|%%/g, (found, hex?: string, one?: string) => {
          if (hex !== undefined) return String.fromCharCode(Number.parseInt(hex, 16));
          return one ?? (found === "%%" ? "%" : found);
        });
      assert.equal(decoded, text);
      assert.doesNotMatch(written.replaceAll("%%", ""), /%/);
    }),
  );
});

test("hcl: a quoted template that decodes to any text, with nothing interpolated", () => {
  fc.assert(
    fc.property(anyText, (text) => {
      const written = write("hcl", text);
      assert.doesNotMatch(written, /[$%]\{/);
      assert.doesNotMatch(written.replaceAll("\\\\", ""), /\\[^"nrtu]/);
      assert.equal(JSON.parse(written), text);
    }),
  );
});

test("plain: safe words as they are, and everything else is refused", () => {
  fc.assert(
    fc.property(anyText, (text) => {
      if (/^[\w./:,@+-]*$/.test(text)) assert.equal(write("plain", text), text);
      else assert.throws(() => write("plain", text), TemplateFault);
    }),
  );
});

test("what a format cannot hold is refused by name", () => {
  for (const filter of ["sh", "env", "unit"]) {
    assert.throws(() => write(filter, "a\0b"), /a NUL cannot be written into/);
  }
  assert.throws(() => write("xml", "\u0001"), /control character cannot be written into XML/);
});
