/** What retention takes away, as a background task. */
import type { Project } from "../contract/projects.ts";
import type { Projects } from "../projects/projects.ts";
import type { BackgroundTask } from "../runtime/background.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import type { Traffic } from "./traffic.ts";

export interface TrafficRetentionOptions {
  periodMs: number;
}

export function createTrafficRetention(
  _ports: { projects: Pick<Projects, "list">; traffic: Traffic; clock: Clock; log: Log },
  { periodMs }: TrafficRetentionOptions,
): BackgroundTask {
  return { name: "traffic_retention", periodMs, activate: async (): Promise<Project[]> => [] };
}
