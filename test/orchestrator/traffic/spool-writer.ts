/** A process of its own that spools records and says which are durable, until it is killed. */
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { openSpool } from "../../../orchestrator/traffic/spool.ts";

const [dir = "", id = ""] = process.argv.slice(2);
const facts = { door: "egress", engine: "embedded", host: "here", startedAtMs: 0 } as const;
const spool = await openSpool({
  ...{ dir, source: { id, ...facts }, bytesMax: 2 ** 30, log: createLog("silent") },
  sealAfterMs: 20,
});
for (let number = 1; ; number += 8) {
  const batch = Array.from({ length: 8 }, (_, at) => {
    return spool.append(JSON.stringify({ number: number + at, text: "x".repeat(200) }));
  });
  const acked = await Promise.all(batch);
  process.stdout.write(`${acked.at(-1)}\n`);
}
