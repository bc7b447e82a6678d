/** Reads a YAML file against a schema; every fault names file, line and field. Pure. */
import type { Static, TSchema } from "typebox";
import { Compile } from "typebox/compile";
import { isNode, LineCounter, parseDocument } from "yaml";

/** A file of the model catalogue is not right. The message is one line: file, line, field, fix. */
export class CatalogError extends Error {
  override readonly name = "CatalogError";
}

export interface YamlFile<Value> {
  value: Value;
  /** A fault in the value at `path`, as an error that says where it stands in the file. */
  fault(path: readonly (string | number)[], message: string): CatalogError;
}

/** @throws CatalogError for the first fault, the deepest one when several stand in one place. */
export function readYaml<Schema extends TSchema>(
  text: string,
  fileName: string,
  schema: Schema,
): YamlFile<Static<Schema>> {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true });
  const [syntaxError] = document.errors;
  if (syntaxError !== undefined) {
    const { line } = lines.linePos(syntaxError.pos[0]);
    const [message = "not valid YAML"] = syntaxError.message.split("\n");
    throw new CatalogError(`${fileName}:${line}: ${message}`);
  }
  const value: unknown = document.toJS({ maxAliasCount: 10 });
  const check = Compile(schema);
  if (!check.Check(value)) {
    const [first] = [...check.Errors(value)].sort((a, b) => depth(b) - depth(a));
    const path = first === undefined ? [] : first.instancePath.split("/").slice(1);
    throw fault(path, describe(first?.keyword, first?.message, first?.params));
  }
  return { value, fault };

  function fault(path: readonly (string | number)[], message: string): CatalogError {
    const field = path.length === 0 ? "" : `${path.join(".")}: `;
    return new CatalogError(`${fileName}:${lineOf(path)}: ${field}${message}`);
  }

  /** The line of the node at `path`, or of its nearest ancestor that the file has. */
  function lineOf(path: readonly (string | number)[]): number {
    const keys = path.map((key) => (/^\d+$/.test(String(key)) ? Number(key) : key));
    for (let length = keys.length; length > 0; length--) {
      const node = document.getIn(keys.slice(0, length), true);
      if (isNode(node) && node.range) return lines.linePos(node.range[0]).line;
    }
    return 1;
  }
}

function depth(error: { instancePath: string }): number {
  return error.instancePath.split("/").length;
}

function describe(keyword?: string, message?: string, params?: unknown): string {
  if (keyword === "boolean") return "unknown key";
  if (keyword === "required") {
    const { requiredProperties = [] } = params as { requiredProperties?: string[] };
    return `missing ${requiredProperties.join(", ")}`;
  }
  return message ?? "not as its schema says";
}
