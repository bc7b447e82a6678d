/**
 * Reads a file in YAML against its schema: every fault is told with file, line and field. Pure.
 */
import type { Static, TSchema } from "typebox";
import type { Compile } from "typebox/compile";
import type { TLocalizedValidationError } from "typebox/error";
import { type Document, isNode, LineCounter, parseDocument, visit } from "yaml";
import { Problem } from "../problem.ts";

export interface CheckedFile<Value> {
  value: Value;
  /** The problem of what is wrong at a field, beyond its schema. */
  fault(path: readonly string[], message: string): Problem;
}

/**
 * @param fileName how the file is called in messages.
 * @param prepare what to do with the document before its values are read.
 * @throws Problem `invalid_request`: one line, naming file, line, field and what to do.
 */
export function readCheckedYaml<Schema extends TSchema>(
  { schema, validator }: { schema: Schema; validator: ReturnType<typeof Compile<Schema>> },
  { text, fileName }: { text: string; fileName: string },
  prepare: (document: Document) => void = () => {},
): CheckedFile<Static<Schema>> {
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
  prepare(document);
  const value = readValue(document, lines, fileName);
  if (!validator.Check(value)) {
    const [first] = [...validator.Errors(value)].sort(byDepth);
    const { path, message } = describe(schema, first);
    throw new Problem("invalid_request", `${fileName}:${lineOf(path)}: ${message}`);
  }
  return { value, fault };

  function fault(path: readonly string[], message: string): Problem {
    const where = `${fileName}:${lineOf(path)}: ${path.join(".")}`;
    return new Problem("invalid_request", `${where}: ${message}`);
  }

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

/** Faults deep in the document say more than those of the union or object around them. */
function byDepth(a: TLocalizedValidationError, b: TLocalizedValidationError): number {
  return b.instancePath.split("/").length - a.instancePath.split("/").length;
}

function describe(
  schema: TSchema,
  error: TLocalizedValidationError | undefined,
): {
  path: string[];
  message: string;
} {
  if (error === undefined) return { path: [], message: "not such a file" };
  const path = error.instancePath.split("/").slice(1);
  const field = path.join(".") || "the file";
  if (error.keyword === "boolean") {
    const known = propertiesAt(schema, path.slice(0, -1)).join(", ");
    return { path, message: `${field}: unknown key; known here: ${known}` };
  }
  if (error.keyword === "required") {
    return { path, message: `${field}: missing ${error.params.requiredProperties.join(", ")}` };
  }
  const wanted = descriptionAt(schema, path);
  const message = wanted === null ? error.message : `must be ${wanted}`;
  return { path, message: `${field}: ${message}` };
}

function schemaAt(root: TSchema, path: readonly string[]): Record<string, unknown> | null {
  let schema = root as Record<string, unknown>;
  for (const key of path) {
    const properties = objectOf(schema)["properties"] as Record<string, unknown> | undefined;
    const patterns = objectOf(schema)["patternProperties"] as Record<string, unknown> | undefined;
    const next = properties?.[key] ?? (patterns && Object.values(patterns)[0]) ?? schema["items"];
    if (next === undefined || next === null) return null;
    schema = next as Record<string, unknown>;
  }
  return schema;
}

/** Of what may be a word or an object, the object: fields are of that alone. */
function objectOf(schema: Record<string, unknown>): Record<string, unknown> {
  const options = schema["anyOf"] as Record<string, unknown>[] | undefined;
  return options?.find((option) => option["type"] === "object") ?? schema;
}

function propertiesAt(root: TSchema, path: readonly string[]): string[] {
  const schema = schemaAt(root, path);
  return Object.keys(schema === null ? {} : ((objectOf(schema)["properties"] ?? {}) as object));
}

function descriptionAt(root: TSchema, path: readonly string[]): string | null {
  const description = schemaAt(root, path)?.["description"];
  return typeof description === "string" ? description : null;
}
