/** What workers of other machines are told of where we listen. Pure. */
import { type Config, ConfigError } from "./config.ts";

type Listening = Pick<Config, "host" | "apiUrl" | "scheduler">;

/** Every address of this machine: one can listen on it, and connect to it from nowhere else. */
const WILDCARDS: readonly string[] = ["0.0.0.0", "[::]", "[::ffff:0:0]"];

/** @throws ConfigError when workers of other machines would be told an address that is none. */
export function refuseNoAddress(config: Listening): void {
  if (!isTold(config) || config.apiUrl !== null) return;
  throw new ConfigError(
    `AUTOCODE_API_URL: must be set where AUTOCODE_HOST is ${config.host}, which is no address ` +
      `that workers reach: to one of this machine's, such as http://10.0.0.5:7700. ` +
      "The gateway is looked for on the same host",
  );
}

/**
 * Where workers reach our gateway, which listens at `listensAt`: its own port, and on a wildcard
 * the host that the API is reached at.
 */
export function gatewayAddress(config: Listening, listensAt: string): string {
  if (!isTold(config) || config.apiUrl === null) return listensAt;
  return `http://${new URL(config.apiUrl).hostname}:${new URL(listensAt).port || "80"}`;
}

/** Workers beside us connect to a wildcard as to loopback. */
function isTold({ host, scheduler }: Listening): boolean {
  return scheduler !== "local" && isWildcard(host);
}

/** However it is written: `0` and `::0` are such addresses as well. */
function isWildcard(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, "");
  const url = `http://${bare.includes(":") ? `[${bare}]` : bare}`;
  return URL.canParse(url) && WILDCARDS.includes(new URL(url).hostname);
}
