/** The simulation's scheduler is a fake, so it is held to what the port asks of every scheduler. */
import { seededRandom } from "../../orchestrator/runtime/random.ts";
import { testScheduler } from "../orchestrator/scheduler/conformance.ts";
import { createWorkers, newTally } from "./workers.ts";

testScheduler(
  "simulated",
  async () => {
    const workers = createWorkers(seededRandom(1), newTally());
    return {
      scheduler: workers.scheduler,
      starts: (id) => workers.all().filter(({ placement }) => placement.allocationId === id).length,
      [Symbol.asyncDispose]: async () => {},
    };
  },
  { isDriven: true },
);
