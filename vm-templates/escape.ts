/**
 * How a value is written into each format, as the filters of the templates: whatever the value is,
 * a reader of the format gets it back, and nothing beside it. What a format cannot hold is refused.
 * Pure.
 */
import { TemplateFault } from "./variables.ts";

type Escaper = (value: unknown, parameter?: unknown) => string;

/** Each filter's name, as templates call it. Every `{{ … }}` must end with one of these. */
export const ESCAPERS: Readonly<Record<string, Escaper>> = {
  yaml,
  block,
  xml,
  sh,
  env,
  unit,
  hcl,
  plain,
};

/** JSON is YAML when all beyond ASCII is escaped as YAML's readers of version 1.1 read it. */
function yaml(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map((each) => yaml(each)).join(", ")}]`;
  if (typeof value !== "string") return plain(value);
  return `"${[...value].map(yamlCharacter).join("")}"`;
}

function yamlCharacter(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (character === "\n") return "\\n";
  if (character === '"' || character === "\\") return `\\${character}`;
  if (code >= 0x20 && code < 0x7f) return character;
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, "0")}`;
  if (code < 0x1_0000) return `\\u${code.toString(16).padStart(4, "0")}`;
  return `\\U${code.toString(16).padStart(8, "0")}`;
}

/** A text of several lines as a literal block, indented by `indent`, so that people can read it. */
function block(value: unknown, indent: unknown): string {
  const text = String(value);
  const isReadable = /^[!-~][ -~\n\t]*[^\n]\n$/.test(text);
  if (!isReadable || typeof indent !== "number") return yaml(text);
  const margin = " ".repeat(indent);
  const lines = text.slice(0, -1).split("\n");
  return `|\n${lines.map((line) => (line === "" ? "" : margin + line)).join("\n")}`;
}

const XML_ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&apos;",
};

/** For text and attributes: a parser would make one line of an attribute's tabs and line feeds. */
function xml(value: unknown): string {
  const text = String(value);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what XML 1.0 cannot hold.
  if (/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/.test(text)) {
    throw new TemplateFault("a control character cannot be written into XML; remove it");
  }
  return text
    .replaceAll(/[&<>"']/g, (character) => XML_ENTITIES[character] ?? "")
    .replaceAll(/[\t\n\r]/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** One word of a POSIX shell. */
function sh(value: unknown): string {
  const text = withoutNul(value, "a shell's word");
  return /^[A-Za-z0-9_./:=@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** A value of an EnvironmentFile, that a shell reads in the same way. */
function env(value: unknown): string {
  return `"${withoutNul(value, "an environment").replaceAll(/["\\$`]/g, "\\$&")}"`;
}

/** One quoted word of a setting in a unit file: systemd.syntax(7), and `%` of systemd.unit(5). */
function unit(value: unknown): string {
  const text = withoutNul(value, "a unit file");
  const escaped = text
    .replaceAll(/["\\]/g, "\\$&")
    .replaceAll("%", "%%")
    // biome-ignore lint/suspicious/noControlCharactersInRegex: a line feed would end the setting.
    .replaceAll(/[\u0001-\u001f\u007f]/g, (character) => {
      return `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`;
    });
  return `"${escaped}"`;
}

/** A quoted template of HCL 2, whose interpolations are made plain text. */
function hcl(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map((each) => hcl(each)).join(", ")}]`;
  if (typeof value !== "string") return plain(value);
  const quoted = JSON.stringify(value).replaceAll(/[\u007f-\uffff]/g, (character) => {
    const code = character.charCodeAt(0);
    const isSurrogate = code >= 0xd800 && code < 0xe000;
    return isSurrogate ? character : `\\u${code.toString(16).padStart(4, "0")}`;
  });
  const jsonOnly = quoted.replaceAll("\\b", "\\u0008").replaceAll("\\f", "\\u000c");
  return jsonOnly.replaceAll("${", "\\u0024{").replaceAll("%{", "\\u0025{");
}

/** What no format reads as anything but itself: numbers, booleans, and words of safe characters. */
function plain(value: unknown): string {
  const text = String(value);
  if (/^[A-Za-z0-9_./:,@+-]*$/.test(text)) return text;
  throw new TemplateFault(
    `${JSON.stringify(text)} cannot be written unquoted; use a quoting filter`,
  );
}

function withoutNul(value: unknown, where: string): string {
  const text = String(value);
  if (text.includes("\0")) throw new TemplateFault(`a NUL cannot be written into ${where}`);
  return text;
}
