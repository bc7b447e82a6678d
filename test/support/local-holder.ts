/** An orchestrator to be killed: places one worker and says so. `node local-holder.ts <folder>` */
import type { Placement } from "../../orchestrator/scheduler/scheduler.ts";
import { openInFolder } from "./local-scheduler.ts";

const [folder = "", placed = ""] = process.argv.slice(2);
const placement = JSON.parse(placed) as Placement;
const scheduler = await openInFolder(folder, {});
await scheduler.place(placement);
while ((await scheduler.status(placement.allocationId)) !== "running") {
  await new Promise((resolve) => setTimeout(resolve, 5));
}
process.stdout.write("placed\n");
setInterval(() => {}, 1_000);
