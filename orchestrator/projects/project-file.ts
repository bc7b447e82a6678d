/** Reads `autocode.yaml`: every fault is told with file, line and field. Pure. */
import { Compile } from "typebox/compile";
import { type Document, isScalar, visit } from "yaml";
import { ProjectFile } from "../contract/projects.ts";
import { budgetFaults } from "./budget-rules.ts";
import { readCheckedYaml } from "./checked-yaml.ts";
import { policyFaults } from "./egress-rules.ts";

const projectFile = { schema: ProjectFile, validator: Compile(ProjectFile) };

/**
 * The file's content, checked against its schema and the rules that a schema cannot say.
 *
 * @param text the YAML text.
 * @param fileName how the file is called in messages.
 * @throws Problem `invalid_request`: one line, naming file, line, field and what to do.
 */
export function parseProjectFile(text: string, fileName: string): ProjectFile {
  const read = readCheckedYaml(projectFile, { text, fileName }, readAmountsAsWritten);
  const { value } = read;
  if (!Intl.supportedValuesOf("currency").includes(value.currency)) {
    const detail = `no such currency "${value.currency}"; use an ISO 4217 code, such as CAD`;
    throw read.fault(["currency"], detail);
  }
  const timeZone = value.time_zone;
  if (timeZone !== undefined && !isTimeZone(timeZone)) {
    const detail = `no such time zone "${timeZone}"; use an IANA name, such as America/Toronto`;
    throw read.fault(["time_zone"], detail);
  }
  const [fault] = budgetFaults(value.budget);
  if (fault !== undefined) throw read.fault(["budget", ...fault.path], fault.message);
  if (typeof value.egress === "object") {
    const [wrong] = policyFaults(value.egress);
    if (wrong !== undefined) throw read.fault(["egress", ...wrong.path], wrong.message);
  }
  return value;
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

function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat("en", { timeZone: name });
    return true;
  } catch {
    return false;
  }
}
