/** Hosts' requests where another scheduler than the fleet is in force: refused, with the reason. */
import { Problem } from "../problem.ts";
import type { Hosts } from "./workers.ts";

export function createNoHosts(schedulerName: string): Hosts {
  const detail = `Hosts join only with AUTOCODE_SCHEDULER=fleet; ${schedulerName} is in force`;
  return {
    plan: refuse,
    join: refuse,
    authenticate: async () => {
      throw new Problem("unauthenticated", detail);
    },
    sync: refuse,
    receiveLog: refuse,
  };

  async function refuse(): Promise<never> {
    throw new Problem("conflict", detail);
  }
}
