/** The traffic port on Elasticsearch. */
import { Problem } from "../problem.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import type { Traffic } from "./traffic.ts";

/** As config-egress.ts reads it; `certificateAuthority` is the text of `authorityFile`. */
export interface ElasticsearchOptions {
  url: string;
  apiKey: string | null;
  username: string | null;
  password: string | null;
  authorityFile: string | null;
  prefix: string;
}

/** Asks the server nothing before it is used: it may be away when we start. */
export async function createElasticsearchTraffic(
  _config: ElasticsearchOptions,
  _options: { clock: Clock; log: Log },
): Promise<Traffic> {
  throw new Problem("unavailable", "The store of traffic is being built");
}
