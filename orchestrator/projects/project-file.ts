/** Reads `autocode.yaml`: every fault is told with file, line and field. Pure. */
import type { TSchema } from "typebox";
import { Compile } from "typebox/compile";
import type { TLocalizedValidationError } from "typebox/error";
import { type Document, isNode, isScalar, LineCounter, parseDocument, visit } from "yaml";
import { ProjectFile } from "../contract/projects.ts";
import { Problem } from "../problem.ts";
import { budgetFaults } from "./budget-rules.ts";

const projectFile = Compile(ProjectFile);

/**
 * The file's content, checked against its schema and the rules that a schema cannot say.
 *
 * @param text the YAML text.
 * @param fileName how the file is called in messages.
 * @throws Problem `invalid_request`: one line, naming file, line, field and what to do.
 */
export function parseProjectFile(text: string, fileName: string): ProjectFile {
  const lines = new LineCounter();
  const document = parseDocument(text, {
    lineCounter: lines,
    uniqueKeys: true,
    prettyErrors: false,
  });
  const [syntaxError] = document.errors;
  if (syntaxError !== undefined) {
    const { line } = lines.linePos(syntaxError.pos[0]);
    const [message = "not valid YAML"] = syntaxError.message.split("\n");
    throw new Problem("invalid_request", `${fileName}:${line}: ${message}`);
  }

  readAmountsAsWritten(document);
  const value = readValue(document, lines, fileName);
  if (!projectFile.Check(value)) {
    const [first] = [...projectFile.Errors(value)].sort(byDepth);
    const { path, message } = describe(first);
    throw new Problem("invalid_request", `${fileName}:${lineOf(path)}: ${message}`);
  }
  if (!Intl.supportedValuesOf("currency").includes(value.currency)) {
    const where = `${fileName}:${lineOf(["currency"])}`;
    const detail = `currency: no such currency "${value.currency}"; use an ISO 4217 code`;
    throw new Problem("invalid_request", `${where}: ${detail}, such as CAD`);
  }
  const timeZone = value.time_zone;
  if (timeZone !== undefined && !isTimeZone(timeZone)) {
    const where = `${fileName}:${lineOf(["time_zone"])}`;
    const detail = `time_zone: no such time zone "${timeZone}"; use an IANA name`;
    throw new Problem("invalid_request", `${where}: ${detail}, such as America/Toronto`);
  }
  const [fault] = budgetFaults(value.budget);
  if (fault !== undefined) {
    const path = ["budget", ...fault.path];
    const where = `${fileName}:${lineOf(path)}: ${path.join(".")}`;
    throw new Problem("invalid_request", `${where}: ${fault.message}`);
  }
  return value;

  /** The line of the node at `path`, or of its nearest ancestor that the file has. */
  function lineOf(path: readonly string[]): number {
    for (let depth = path.length; depth >= 0; depth--) {
      const keys = path.slice(0, depth).map((key) => (/^\d+$/.test(key) ? Number(key) : key));
      const node = depth === 0 ? document.contents : document.getIn(keys, true);
      if (isNode(node) && node.range) return lines.linePos(node.range[0]).line;
    }
    return 1;
  }
}

function readValue(document: Document, lines: LineCounter, fileName: string): unknown {
  try {
    return document.toJS({ maxAliasCount: 10 });
  } catch (cause) {
    let line = 1;
    visit(document, {
      Alias(_, alias) {
        line = lines.linePos(alias.range?.[0] ?? 0).line;
        return visit.BREAK;
      },
    });
    const detail = `${fileName}:${line}: an alias has no anchor, or there are too many of them`;
    throw new Problem("invalid_request", `${detail}; write the values out`, { cause });
  }
}

/** `total: 10.10` is an amount, not a floating point number: take the digits that were written. */
function readAmountsAsWritten(document: Document): void {
  visit(document, {
    Pair(_, pair, ancestors) {
      const parent = ancestors.at(-2);
      const key = parent !== undefined && "key" in parent ? String(parent.key) : "";
      const isEntry = String(isScalar(pair.key) ? pair.key.value : "") === "amount";
      if (!(key === "budget" || key === "price" || isEntry) || !isScalar(pair.value)) return;
      const { value, source } = pair.value;
      if (typeof value === "number" && source !== undefined) pair.value.value = source;
    },
  });
}

/** Faults deep in the document say more than those of the union or object around them. */
function byDepth(a: TLocalizedValidationError, b: TLocalizedValidationError): number {
  return b.instancePath.split("/").length - a.instancePath.split("/").length;
}

function describe(error: TLocalizedValidationError | undefined): {
  path: string[];
  message: string;
} {
  if (error === undefined) return { path: [], message: "not a project file" };
  const path = error.instancePath.split("/").slice(1);
  const field = path.join(".") || "the file";
  if (error.keyword === "boolean") {
    const known = propertiesAt(path.slice(0, -1)).join(", ");
    return { path, message: `${field}: unknown key; known here: ${known}` };
  }
  if (error.keyword === "required") {
    return { path, message: `${field}: missing ${error.params.requiredProperties.join(", ")}` };
  }
  const wanted = descriptionAt(path);
  const message = wanted === null ? error.message : `must be ${wanted}`;
  return { path, message: `${field}: ${message}` };
}

function schemaAt(path: readonly string[]): Record<string, unknown> | null {
  let schema = ProjectFile as TSchema as Record<string, unknown>;
  for (const key of path) {
    const properties = schema["properties"] as Record<string, unknown> | undefined;
    const patterns = schema["patternProperties"] as Record<string, unknown> | undefined;
    const next = properties?.[key] ?? (patterns && Object.values(patterns)[0]) ?? schema["items"];
    if (next === undefined || next === null) return null;
    schema = next as Record<string, unknown>;
  }
  return schema;
}

function propertiesAt(path: readonly string[]): string[] {
  return Object.keys((schemaAt(path)?.["properties"] as object | undefined) ?? {});
}

function descriptionAt(path: readonly string[]): string | null {
  const description = schemaAt(path)?.["description"];
  return typeof description === "string" ? description : null;
}

function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat("en", { timeZone: name });
    return true;
  } catch {
    return false;
  }
}
