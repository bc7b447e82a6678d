/**
 * What every egress engine does, whatever carries the bytes: what arrives at the server, what the
 * worker sees, and what is recorded. Each engine's test calls it.
 */

import { testBounds } from "./conformance/bounds.ts";
import { testClients } from "./conformance/clients.ts";
import { testHostile } from "./conformance/hostile.ts";
import { testHttp } from "./conformance/http.ts";
import { testStreams } from "./conformance/streams.ts";
import type { OpenEngine } from "./world.ts";

export function testEgressProxy(name: string, open: OpenEngine): void {
  testBounds(name, open);
  testHttp(name, open);
  testStreams(name, open);
  testHostile(name, open);
  testClients(name, open);
}
