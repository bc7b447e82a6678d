/** The simulation's scheduler is a fake, so it is held to what the port asks of every scheduler. */
import { seededRandom } from "../../orchestrator/runtime/random.ts";
import { testScheduler } from "../orchestrator/scheduler/conformance.ts";
import { createWorkers } from "./workers.ts";

testScheduler(
  "simulated",
  async () => {
    const tally = {
      enrolled: 0,
      calls: 0,
      refusedCalls: 0,
      quotas: 0,
      approvals: 0,
      rejections: 0,
      reports: 0,
      vanished: 0,
      fenced: 0,
      killedLives: 0,
    };
    const workers = createWorkers(seededRandom(1), tally);
    return {
      scheduler: workers.scheduler,
      starts: (id) => workers.all().filter(({ placement }) => placement.allocationId === id).length,
      [Symbol.asyncDispose]: async () => {},
    };
  },
  { isDriven: true },
);
