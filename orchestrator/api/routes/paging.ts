/** Pages: `?limit=&before=`, newest first; ids from addresses. */
import { Type } from "typebox";
import { Problem } from "../../problem.ts";
import { type Id, type IdKind, isId } from "../../runtime/ids.ts";

export const PAGE_LIMIT = 50;
export const PageLimit = Type.Integer({ minimum: 1, maximum: 200 });
export const Cursor = Type.String({ minLength: 1, maxLength: 100 });

export const PageQuery = Type.Object(
  { limit: Type.Optional(PageLimit), before: Type.Optional(Cursor) },
  { additionalProperties: false },
);

export const IdParams = Type.Object({ id: Type.String({ maxLength: 100 }) });

/** An id out of an address: what is not one names nothing. */
export function idOf<Kind extends IdKind>(kind: Kind, text: string): Id<Kind> {
  if (isId(kind, text)) return text;
  throw new Problem("not_found", `No ${kind} has this id: it would begin with ${kind}_`);
}

/** An id out of a query, where a wrong one is the request's fault. */
export function queryId<Kind extends IdKind>(kind: Kind, field: string, text: string): Id<Kind> {
  if (isId(kind, text)) return text;
  throw new Problem("invalid_request", `querystring.${field}: must be the id of one ${kind}`);
}
