/** Proves that all that was recorded of traffic arrived in the store, or says what did not. */
import { setTimeout as sleep } from "node:timers/promises";
import type { TrafficSource, TrafficSourceList } from "../../contract/flows.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import { EXIT } from "../failure.ts";
import type { Column } from "../print.ts";

/** What is on its way arrives within so many looks. */
const LOOKS = 20;
const LOOK_EVERY_MS = 500;

export const trafficDoctor: Command = {
  name: "traffic doctor",
  summary: "Prove that every recorded flow arrived, or name what did not",
  options: { json: JSON_OPTION },
  notes: [
    "Each process that records numbers its flows: a gap is a number. Exit status 1 with the",
    "missing ranges when there are any, 10 s after what is on its way should have arrived.",
  ],
  async run({ options, print, connect }) {
    const client = await connect();
    const look = () => client.get<TrafficSourceList>("traffic/sources");
    let { sources } = await look();
    for (let looks = 1; looks < LOOKS && sources.some(isOnItsWay); looks++) {
      await sleep(LOOK_EVERY_MS);
      ({ sources } = await look());
    }
    const incomplete = sources.filter(({ missing }) => missing.length > 0);
    const rejected = sources.reduce((sum, source) => sum + source.rejected_count, 0);
    const isComplete = incomplete.length === 0 && rejected === 0;
    if (options.flag("json")) {
      print.json({ is_complete: isComplete, sources });
      return isComplete ? EXIT.done : EXIT.failed;
    }
    print.table(COLUMNS, sources);
    for (const { id, host, missing, spooled_bytes: bytes } of incomplete) {
      const ranges = missing.map(([first, last]) => (first === last ? first : `${first}-${last}`));
      const where = bytes > 0 ? `${bytes} bytes wait on ${host}` : `${host} has nothing of it`;
      print.line(`missing of ${id}: ${ranges.join(", ")} (${where})`);
    }
    if (rejected > 0) {
      print.line(
        `${rejected} refused by the store for good: see spool/rejected in the data folder of ` +
          "their host, where each line says why",
      );
    }
    if (isComplete) print.line("complete: every flow that was recorded is in the store");
    return isComplete ? EXIT.done : EXIT.failed;
  },
};

function isOnItsWay({
  missing,
  closed_at: closedAt,
  spooled_bytes: bytes,
}: TrafficSource): boolean {
  return missing.length > 0 && (closedAt === null || bytes > 0);
}

const COLUMNS: readonly Column<TrafficSource>[] = [
  { title: "source", value: ({ id }) => id },
  { title: "door", value: ({ door }) => door },
  { title: "host", value: ({ host }) => host, shrinks: true },
  { title: "state", value: ({ closed_at: at }) => (at === null ? "open" : "closed") },
  { title: "recorded", value: ({ last_sequence: last }) => String(last) },
  { title: "arrived", value: ({ stored_count: count }) => String(count) },
  { title: "kept", value: ({ kept_count: count }) => (count === null ? "?" : String(count)) },
  { title: "refused", value: ({ rejected_count: count }) => String(count) },
  { title: "spooled", value: ({ spooled_bytes: bytes }) => String(bytes) },
];
