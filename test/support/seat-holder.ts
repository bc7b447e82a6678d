/** Holds a seat until it is killed: `node seat-holder.ts <folder> <sitter>`. */
import { openSeats, type Sitter } from "../../orchestrator/duties/seats.ts";

const [dir = "", text = ""] = process.argv.slice(2);
const sitter = JSON.parse(text) as Sitter;
const seat = await (await openSeats(dir, sitter.host)).take();
await seat.sit(sitter);
process.stdout.write(`${seat.number}\n`);
setInterval(() => {}, 60_000);
