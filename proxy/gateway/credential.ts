/** The key that a client of the gateway shows, in either dialect's header. Pure. */
import type { IncomingMessage } from "node:http";

const KEY_LENGTH_MAX = 512;

/** The key from either header; null when there is none, or it cannot be one. */
export function credential(incoming: Pick<IncomingMessage, "headers">): string | null {
  const { authorization } = incoming.headers;
  const apiKey = incoming.headers["x-api-key"];
  const bearer = /^Bearer ([\x21-\x7e]+)$/i.exec(authorization ?? "")?.[1];
  const secret = bearer ?? (typeof apiKey === "string" ? apiKey : undefined);
  if (secret === undefined || secret === "" || secret.length > KEY_LENGTH_MAX) return null;
  return secret;
}
