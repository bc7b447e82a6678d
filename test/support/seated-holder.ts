/** Takes a seat, places an allocation, and is killed: `seated-holder.ts <folder> <placement>`. */
import { join } from "node:path";
import { openSeatedScheduler } from "../../orchestrator/duties/seated-scheduler.ts";
import { openSeats } from "../../orchestrator/duties/seats.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import type { Placement } from "../../orchestrator/scheduler/scheduler.ts";
import { openInFolder } from "./local-scheduler.ts";

const [path = "", text = ""] = process.argv.slice(2);
const seats = await openSeats(join(path, "seats"), "here");
const seat = await seats.take();
await seat.sit({
  id: "process_killed",
  host: "here",
  pid: process.pid,
  key: "k",
  scheduler: "local",
});
const scheduler = await openSeatedScheduler(
  {
    seats,
    seat,
    openAt: (number) => openInFolder(path, { allocationsDir: join(path, `allocations-${number}`) }),
    log: createLog("silent"),
  },
  { placedDir: join(path, "placed"), lookMs: 50, readLog: async () => null },
);
await scheduler.place(JSON.parse(text) as Placement);
process.stdout.write("placed\n");
