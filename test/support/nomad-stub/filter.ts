/** Filter expressions (go-bexpr), as far as the scheduler uses them: comparisons of fields. */
import { Refusal } from "./refusal.ts";

const CLAUSE = /^([A-Z]\w*) (==|!=) "([^"]*)"$/;

/** @throws Refusal 400 for what is none, or names a field that is not there. */
export function compileFilter(text: string): (row: object) => boolean {
  const alternatives = text.split(" or ").map((part) => part.split(" and ").map(parse));
  return (row) => alternatives.some((clauses) => clauses.every((clause) => clause(row)));

  function parse(clause: string): (row: object) => boolean {
    const [, field = "", operator, value] = CLAUSE.exec(clause.trim()) ?? [];
    const refused = new Refusal(
      400,
      `failed to create result paginator: failed to read filter expression: ${clause}`,
    );
    if (operator === undefined) throw refused;
    return (row) => {
      if (!(field in row)) throw refused;
      const isEqual = (row as Record<string, unknown>)[field] === value;
      return operator === "==" ? isEqual : !isEqual;
    };
  }
}
