/** Where everything lies under AUTOCODE_HOME (architecture, section 8): paths, and their making. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";

export interface Layout {
  home: string;
  /** What no project owns; agents' users pass through it to their allocations. */
  shared: string;
  postgres: string;
  configs: string;
  /** The sealed secrets and their key. */
  secrets: string;
  /** Where the server listens and the command line's token. */
  endpoint: string;
  agents: string;
  allocations: string;
  logs: string;
  /** The weights of the models that we serve. */
  weights: string;
  /** What is known of running model servers: a folder a machine. */
  engines: string;
  /** Flow records that wait for the store: a folder a process. */
  spool: string;
  /** What the egress proxy's own processes need, this orchestrator's. */
  egress: string;
  /** The seats of the orchestrators that share this folder, and what they placed. */
  orchestrators: string;
  project(projectId: string): {
    root: string;
    financial: string;
    trafficLogs: string;
    workerArtifacts: string;
    checkpoints: string;
    tasks: string;
  };
  task(projectId: string, taskId: string): { root: string; source: string; tests: string };
  artefact(projectId: string, trialId: string, allocationId: string, name: string): string;
}

/** @param seat what is one orchestrator's own, of those that share the folder; 0: the first. */
export function createLayout(home: string, seat = 0): Layout {
  const shared = join(home, "shared");
  const own = seat === 0 ? "" : `-${seat}`;
  return {
    home,
    shared,
    postgres: join(shared, "postgres"),
    configs: join(shared, "configs"),
    secrets: join(shared, "vault-secrets"),
    endpoint: join(shared, "configs", `endpoint${own}.json`),
    agents: join(shared, "agents"),
    allocations: join(shared, `allocations${own}`),
    logs: join(shared, "logs"),
    weights: join(shared, "model-weights"),
    engines: join(shared, "engines"),
    spool: join(shared, "spool"),
    egress: join(shared, `egress${own}`),
    orchestrators: join(shared, "orchestrators"),
    project,
    task,
    artefact,
  };

  function project(projectId: string) {
    const root = join(home, "projects", projectId);
    return {
      root,
      financial: join(root, "financial"),
      trafficLogs: join(root, "traffic-logs"),
      workerArtifacts: join(root, "worker-artifacts"),
      checkpoints: join(root, "checkpoints"),
      tasks: join(root, "tasks"),
    };
  }

  function task(projectId: string, taskId: string) {
    const root = join(project(projectId).tasks, taskId);
    return { root, source: join(root, "source.bundle"), tests: join(root, "tests.tar") };
  }

  function artefact(projectId: string, trialId: string, allocationId: string, name: string) {
    return join(project(projectId).workerArtifacts, trialId, allocationId, name);
  }
}

/** A project's folders, which people and back-up programs look for. Idempotent. */
export async function makeProjectFolders(layout: Layout, projectId: string): Promise<void> {
  for (const folder of Object.values(layout.project(projectId))) {
    await mkdir(folder, { recursive: true });
  }
}
