/** Workers for the UI's fixture: one of each status, one with GPUs. */
import type { Services } from "../../orchestrator/api/services.ts";
import type { Worker, WorkerDetail } from "../../orchestrator/contract/workers.ts";
import { Problem } from "../../orchestrator/problem.ts";

const WINDOW_MS = 30 * 86_400_000;
const GIB = 2 ** 30;

export function fixtureWorkers(nowMs: number): Services["workers"] {
  const at = (agoMs: number) => new Date(nowMs - agoMs).toISOString();
  const draining = new Set(["worker_2"]);
  return {
    list: async () => ({
      scheduler: "fleet",
      workers: workers(),
      availability: 0.99952,
      availability_target: 0.99,
      window_ms: WINDOW_MS,
      pending: 3,
      can_join: true,
    }),
    get: async (name) => detail(name),
    drain: async (name, isDraining) => {
      const { worker } = detail(name);
      if (isDraining) draining.add(worker.id);
      else draining.delete(worker.id);
      return detail(name);
    },
    remove: async () => {},
    listJoinTokens: async () => ({ tokens: [] }),
    revokeJoinToken: async () => {},
    issueJoinToken: async ({ pool, uses, ttl_ms }) => ({
      id: "token_fixture",
      token: "autocode_join_fixture-of-43-characters-of-base64url-x",
      ...{ pool, uses, expires_at: at(-ttl_ms) },
    }),
    metrics: async () => "",
  };

  function detail(name: string): WorkerDetail {
    const worker = workers().find((each) => each.name === name || each.id === name);
    if (worker === undefined) throw new Problem("not_found", `There is no worker ${name}`);
    const isDown = worker.status === "down";
    const outages = [
      { started_at: at(3 * 86_400_000), ended_at: at(3 * 86_400_000 - 95_000) },
      ...(isDown ? [{ started_at: at(240_000), ended_at: null }] : []),
    ];
    return {
      worker,
      window_ms: WINDOW_MS,
      outages: outages.slice(worker.name === "build-1" ? 2 : 0).toReversed(),
      allocations: Array.from({ length: worker.used }, (_, index) => ({
        allocation_id: `allocation_01j9zq2e5m0000000000000${index}ab`.slice(0, 37),
        trial_id: null,
        state: "running",
        assigned_at: at(180_000),
        ended_at: null,
      })),
    };
  }

  function workers(): Worker[] {
    return [
      worker({ name: "build-1", availability: 1, used: 3 }),
      worker({ name: "build-2", availability: 0.99931, outage_count: 1, used: 4 }),
      worker({
        ...{ name: "gpu-a100-eu-west-frankfurt-rack-17", pool: "gpu", used: 1, slots: 2 },
        gpus: [{ name: "NVIDIA H100 80GB", memory_bytes: 80 * GIB }],
        ...{ availability: 0.9917, outage_count: 1 },
      }),
      worker({ name: "vm-7", status: "down", availability: 0.97312, outage_count: 2, used: 0 }),
    ].map((each, index) => ({
      ...each,
      id: `worker_${index + 1}`,
      status: draining.has(`worker_${index + 1}`) ? "draining" : each.status,
    }));
  }

  function worker(given: Partial<Worker> & { gpus?: NonNullable<Worker["capabilities"]>["gpus"] }) {
    const { gpus = [], ...more } = given;
    const base: Worker = {
      ...{ id: "", name: "", pool: "default", status: "ready", slots: 4, used: 0 },
      capabilities: {
        ...{ cpus: 64, memory_bytes: 8 * GIB, disk_bytes: 128 * GIB, gpus, arch: "x64" },
        ...{ vm_template: gpus.length > 0 ? "gpu-worker" : "worker" },
        agents: ["claude-code 2.1.7", "codex 0.54.0"],
      },
      joined_at: at(12 * 86_400_000),
      heartbeat_at: at(more.status === "down" ? 240_000 : 4_000),
      ...{ availability: null, outage_count: 0 },
    };
    return { ...base, ...more };
  }
}
