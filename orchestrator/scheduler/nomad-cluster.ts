/** The cluster's nodes and what is on them now: room for more, and hosts to show. */
import type { Requirements } from "../contract/workers.ts";
import { Problem } from "../problem.ts";
import type { NomadClient } from "./nomad-client.ts";
import { askOf } from "./nomad-job.ts";
import { hostOf, type KnownNode, raised, room, type Wanted, whyNever } from "./nomad-nodes.ts";
import type { Job, JobStub, Node, NodeStub } from "./nomad-wire.ts";
import type { Host } from "./scheduler.ts";

export interface NomadClusterOptions {
  /** What several ask for at a time is loaded once. */
  share<Value>(load: () => Promise<Value>): () => Promise<Value>;
  isOurs(jobId: string): boolean;
}

/** Nodes' details at a time. */
const DETAILS_AT_ONCE = 8;
const NAMED_MAX = 5;

export function createNomadCluster(
  client: Pick<NomadClient, "nodes" | "node" | "liveAllocations">,
  { share, isOurs }: NomadClusterOptions,
) {
  /** By the node's id; read anew when the node has changed. */
  let details = new Map<string, { index: number; detail: Node | null }>();
  const look = share(async () => {
    const [nodes, allocations] = await Promise.all([known(), client.liveAllocations()]);
    return { nodes, allocations };
  });
  return { capacity, hosts };

  /**
   * @param children live ones of ours: those without an allocation wait in line. @throws Problem
   * `invalid_request`: no node could run it were it empty, though some could run other trials.
   */
  async function capacity(
    template: Job,
    requirements: Requirements,
    children: readonly JobStub[],
  ): Promise<number> {
    const { nodes, allocations } = await look();
    const wanted = wantedOf(template);
    const ask = { ...wanted, ask: raised(wanted.ask, requirements) };
    refuseImpossible(nodes, ask, requirements);
    const placed = new Set(allocations.map(({ JobID }) => JobID));
    const waiting = children.filter(({ ID }) => !placed.has(ID)).length;
    return Math.max(0, room(nodes, ask, requirements, allocations) - waiting);
  }

  function refuseImpossible(nodes: readonly KnownNode[], ask: Wanted, asked: Requirements): void {
    const pool = asked.pool === undefined ? {} : { pool: asked.pool };
    const base = { ...ask, ask: { ...ask.ask, memoryMib: 0, diskMib: 0, gpus: 0 } };
    // A node that is away, or whose driver is, is no reason to give a trial up.
    const able = nodes.filter((node) => whyNever(node, base, pool) === null);
    const reasons = able.map((node) => [node.stub.Name, whyNever(node, ask, asked)] as const);
    if (able.length === 0 || reasons.some(([, why]) => why === null)) return;
    const named = reasons.slice(0, NAMED_MAX).map(([name, why]) => `${name}: ${why}`);
    throw new Problem(
      "invalid_request",
      `No node of Nomad's can run it (${JSON.stringify(asked)}): ${named.join("; ")}`,
    );
  }

  async function hosts(template: Job): Promise<Host[]> {
    const { nodes, allocations } = await look();
    const wanted = wantedOf(template);
    return nodes.map((node) => hostOf(node, wanted, { allocations, isOurs }));
  }

  async function known(): Promise<KnownNode[]> {
    const stubs = await client.nodes();
    const next = new Map<string, { index: number; detail: Node | null }>();
    const queue = [...stubs];
    const lanes = Array.from({ length: DETAILS_AT_ONCE }, async () => {
      for (let stub = queue.shift(); stub !== undefined; stub = queue.shift()) {
        const before = details.get(stub.ID);
        const isSame = before?.index === stub.ModifyIndex;
        const detail = isSame ? before.detail : await read(stub);
        next.set(stub.ID, { index: stub.ModifyIndex, detail });
      }
    });
    await Promise.all(lanes);
    details = next;
    return stubs.map((stub) => ({ stub, detail: next.get(stub.ID)?.detail ?? null }));
  }

  /** A token that may not read nodes one by one still sees what they have. */
  async function read({ ID }: NodeStub): Promise<Node | null> {
    try {
      return await client.node(ID);
    } catch (error) {
      if (error instanceof Problem && error.code === "forbidden") return null;
      throw error;
    }
  }
}

function wantedOf(template: Job): Wanted {
  return {
    ask: askOf(template),
    pool: template.NodePool || "default",
    datacenters: template.Datacenters ?? ["*"],
  };
}
