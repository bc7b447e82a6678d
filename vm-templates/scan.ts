/**
 * Reads a template before it is rendered, and finds what would only show at some values: names that
 * nothing defines, values that nothing escapes, templates that are not there. Pure.
 */
import nunjucks from "nunjucks";
import { ESCAPERS } from "./escape.ts";
import { describe, TemplateFault } from "./variables.ts";

interface Node {
  typename: string;
  fields: readonly string[];
  lineno: number;
  [field: string]: unknown;
}

/** Where a template mentions a variable. */
export interface Mention {
  name: string;
  line: number;
}

export interface Scan {
  mentions: readonly Mention[];
  /** Templates that it extends, includes or imports. */
  uses: readonly string[];
}

/** What there is in every template without being a variable that can be set. */
export const BUILT_IN = ["template", "rendered", "proxy_host", "proxy_port"] as const;

const parser = (nunjucks as unknown as { parser: { parse(source: string): Node } }).parser;

/** @throws TemplateFault naming template, line, and what is wrong there. */
export function scanTemplate(path: string, source: string): Scan {
  const mentions: Mention[] = [];
  const uses: string[] = [];
  walk(parse(path, source), new Set(BUILT_IN));
  return { mentions, uses };

  function walk(node: Node, scope: Set<string>): void {
    switch (node.typename) {
      case "Symbol":
        use(node, String(node["value"]), scope);
        return;
      case "Output":
        walkOutput(node, scope);
        return;
      case "Filter":
        walkAll(childrenOf(node["args"]), scope);
        return;
      case "LookupVal":
        walk(node["target"] as Node, scope);
        return;
      case "Pair":
        walk(node["value"] as Node, scope);
        return;
      case "Block":
        walk(node["body"] as Node, new Set([...scope, "super"]));
        return;
      case "Set":
        walkAll(childrenOf(node["value"] ?? node["body"]), scope);
        for (const target of node["targets"] as Node[]) scope.add(String(target["value"]));
        return;
      case "For": {
        walk(node["arr"] as Node, scope);
        const names = childrenOf(node["name"]).map((each) => String(each["value"]));
        const inner = new Set([...scope, ...names, "loop"]);
        walkAll([...childrenOf(node["body"]), ...childrenOf(node["else_"])], inner);
        return;
      }
      case "Extends":
      case "Include":
        refer(node);
        return;
      case "Macro":
      case "Import":
      case "FromImport":
        throw faultAt(node, "macros are not used here: `include` a part, or extend a template");
      default:
        for (const field of node.fields) walkAll(childrenOf(node[field]), scope);
    }
  }

  function walkAll(nodes: readonly Node[], scope: Set<string>): void {
    for (const node of nodes) walk(node, scope);
  }

  function use(node: Node, name: string, scope: ReadonlySet<string>): void {
    if (scope.has(name)) return;
    if (describe(name) === null) throw faultAt(node, `${name} is no variable, and nothing sets it`);
    mentions.push({ name, line: node.lineno + 1 });
  }

  /** A part that was rendered is escaped already; anything else must end with an escaper. */
  function walkOutput(node: Node, scope: Set<string>): void {
    for (const child of childrenOf(node["children"])) {
      if (child.typename === "TemplateData") continue;
      const name = String((child["name"] as Node | undefined)?.["value"]);
      const isEscaped = child.typename === "Filter" && name in ESCAPERS;
      const isParent = child.typename === "FunCall" && name === "super" && scope.has("super");
      if (!isEscaped && !isParent) {
        const known = Object.keys(ESCAPERS).join(", ");
        throw faultAt(child, `a value must end with one of the filters ${known}`);
      }
      walk(child, scope);
    }
  }

  function refer(node: Node): void {
    const target = node["template"] as Node;
    if (target.typename !== "Literal") throw faultAt(node, "a template is named by a text");
    uses.push(String(target["value"]));
  }

  function faultAt(node: Node, message: string): TemplateFault {
    return new TemplateFault(`${path}:${node.lineno + 1}: ${message}`);
  }
}

function parse(path: string, source: string): Node {
  try {
    return parser.parse(source);
  } catch (cause) {
    const { lineno = 0, message } = cause as Error & { lineno?: number };
    const words = message.split("\n").at(-1)?.trim() ?? "not a template";
    const fault = new TemplateFault(`${path}:${Math.max(1, lineno)}: ${words}`);
    fault.cause = cause;
    throw fault;
  }
}

function childrenOf(value: unknown): Node[] {
  if (Array.isArray(value)) return value.filter(isNode);
  if (!isNode(value)) return [];
  const isList = value.typename === "NodeList" || value.typename === "Array";
  return isList ? (value["children"] as Node[]) : [value];
}

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && "typename" in value;
}
