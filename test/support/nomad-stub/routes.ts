/** The stub's endpoints: what each takes, who may ask it, and what it answers. */
import type { ServerResponse } from "node:http";
import { allocationDetail, allocationStub, jobDetail, jobStub } from "./answers.ts";
import { BODIES, decode } from "./bodies.ts";
import type { createEvents } from "./events.ts";
import { compileFilter } from "./filter.ts";
import { nodeDetail, nodeStub, type Spec } from "./nodes.ts";
import { PERMISSION_DENIED, Refusal, TOKEN_NOT_FOUND } from "./refusal.ts";
import { type DispatchBody, isOver, type StubAllocation, type StubState } from "./state.ts";
import { ANONYMOUS, type StubToken } from "./tokens.ts";

export interface Asked {
  method: string;
  /** Encoded: an id may have a slash. */
  path: string;
  query: URLSearchParams;
  body: string;
  /** Null: access control is off. */
  token: StubToken | null;
  response: ServerResponse;
}

interface Route {
  methods: string;
  path: RegExp;
  /** Parameters; what is not among them is refused. */
  takes: string;
  needs: string | null;
  answer(asked: Asked, id: string): unknown;
}

const COMMON = ["namespace", "region"];
const FRAME_BYTES = 65_536;
const FOLLOW_MS = 10;

export function createRoutes({
  state,
  events,
  version,
  httpAddr,
}: {
  state: StubState;
  events: ReturnType<typeof createEvents>;
  version: string;
  httpAddr: string;
}) {
  let reads = 0;
  const row = (allocation: StubAllocation) =>
    [state.jobs.get(allocation.JobID), nodeOf(allocation)] as const;
  const nodeOf = ({ NodeID }: StubAllocation) => state.nodes.find(({ ID }) => ID === NodeID);

  const routes: Route[] = [
    {
      methods: "GET",
      path: /^\/v1\/acl\/token\/self$/,
      takes: "",
      needs: null,
      answer: ({ token }) => {
        // ACL.WhoAmI
        const off = { AccessorID: "acls-disabled", Name: "ACLs disabled token", Type: "client" };
        if (token === null) return { ...off, Policies: null };
        const { name, may: can, isWorkload = false } = token;
        if (isWorkload) throw new Refusal(404, TOKEN_NOT_FOUND);
        const isAnonymous = name === ANONYMOUS.name;
        return {
          AccessorID: isAnonymous ? "anonymous" : "a",
          Name: name,
          Type: can.includes("management") ? "management" : "client",
          Policies: [isAnonymous ? "anonymous" : "autocode"],
        };
      },
    },
    {
      methods: "GET",
      path: /^\/v1\/agent\/self$/,
      takes: "",
      needs: "agent:read",
      answer: () => ({ config: {}, member: { Tags: { build: version } }, stats: {} }),
    },
    {
      methods: "GET",
      path: /^\/v1\/jobs$/,
      takes: "prefix filter meta per_page next_token",
      needs: "list-jobs",
      answer: ({ query }) => {
        const isIn = compileOptional(query.get("filter"));
        return [...state.jobs.values()]
          .filter(({ ID }) => ID.startsWith(query.get("prefix") ?? ""))
          .filter((job) => isIn(job))
          .sort((one, other) => (one.ID < other.ID ? -1 : 1))
          .map((job) =>
            jobStub(job, [...state.allocations.values()], query.get("meta") === "true"),
          );
      },
    },
    {
      methods: "PUT POST",
      path: /^\/v1\/jobs$/,
      takes: "",
      needs: "submit-job",
      answer: ({ body }) => register(body),
    },
    {
      methods: "PUT POST",
      path: /^\/v1\/job\/([^/]+)\/dispatch$/,
      takes: "idempotency_token",
      needs: "dispatch-job",
      answer: ({ body, query }, id) => {
        const given = decode<DispatchBody>(BODIES.dispatch, body);
        const made = state.dispatch(id, given, query.get("idempotency_token") ?? "");
        const { child, isNew } = made;
        return {
          DispatchedJobID: child.ID,
          EvalID: isNew ? child.ID : "",
          EvalCreateIndex: isNew ? child.CreateIndex : 0,
          JobCreateIndex: child.CreateIndex,
          Index: child.ModifyIndex,
        };
      },
    },
    {
      methods: "GET",
      path: /^\/v1\/job\/([^/]+)\/allocations$/,
      takes: "all",
      needs: "read-job",
      answer: (_, id) =>
        [...state.allocations.values()]
          .filter(({ JobID }) => JobID === id)
          .map((each) =>
            allocationStub(each, ...row(each), { resources: false, taskStates: true }),
          ),
    },
    {
      methods: "GET",
      path: /^\/v1\/job\/([^/]+)$/,
      takes: "",
      needs: "read-job",
      answer: (_, id) => {
        const job = state.jobs.get(id);
        if (job === undefined) throw new Refusal(404, "job not found");
        reads += 1;
        return jobDetail(job, reads % 2 === 0);
      },
    },
    {
      methods: "DELETE",
      path: /^\/v1\/job\/([^/]+)$/,
      takes: "purge",
      needs: "submit-job",
      answer: ({ query }, id) => {
        const job = state.deregister(id, query.get("purge") === "true");
        const index = job?.ModifyIndex ?? 0;
        return { EvalID: job === null ? "" : id, JobModifyIndex: index, EvalCreateIndex: index };
      },
    },
    {
      methods: "GET",
      path: /^\/v1\/allocations$/,
      takes: "prefix filter resources task_states",
      needs: "read-job",
      answer: ({ query }) => {
        const isIn = compileOptional(query.get("filter"));
        const resources = query.get("resources") === "true";
        const taskStates = query.get("task_states") !== "false";
        return [...state.allocations.values()]
          .filter((each) => isIn(each))
          .map((each) => allocationStub(each, ...row(each), { resources, taskStates }));
      },
    },
    {
      methods: "GET",
      path: /^\/v1\/allocation\/([^/]+)$/,
      takes: "",
      needs: "read-job",
      answer: (_, id) => allocationDetail(...find(id)),
    },
    {
      methods: "GET",
      path: /^\/v1\/nodes$/,
      takes: "resources os prefix filter",
      needs: "node:read",
      answer: () => state.nodes.map((node) => nodeStub(node, version)),
    },
    {
      methods: "GET",
      path: /^\/v1\/node\/([^/]+)$/,
      takes: "",
      needs: "node:read",
      answer: (_, id) => {
        const node = state.nodes.find(({ ID }) => ID === id);
        if (node === undefined) throw new Refusal(404, "node not found");
        return nodeDetail(node, version, httpAddr);
      },
    },
    {
      methods: "PUT POST",
      path: /^\/v1\/node\/([^/]+)\/drain$/,
      takes: "",
      needs: "node:write",
      answer: ({ body }, id) => {
        const given = decode<{ DrainSpec?: object | null; MarkEligible: boolean }>(
          BODIES.drain,
          body,
        );
        const isDraining = given.DrainSpec !== null && given.DrainSpec !== undefined;
        const index = state.drain(id, isDraining, given.MarkEligible);
        return { NodeModifyIndex: index, EvalIDs: null, EvalCreateIndex: 0, Index: index };
      },
    },
    {
      methods: "GET",
      path: /^\/v1\/event\/stream$/,
      takes: "topic index",
      needs: "read-job",
      answer: ({ query, response }) => {
        if (query.get("topic") !== "Allocation:*") throw new Refusal(400, "Invalid topic query");
        events.subscribe(response, Number(query.get("index") ?? "0"));
      },
    },
    {
      methods: "GET",
      path: /^\/v1\/client\/fs\/logs\/([^/]+)$/,
      takes: "task type origin offset follow plain",
      needs: "read-logs",
      answer: ({ query, response }, id) => logs(query, response, id),
    },
  ];
  return route;

  async function route(asked: Asked): Promise<unknown> {
    const { method, path, query, token } = asked;
    const found = routes.filter((each) => each.path.test(path));
    const one = found.find(({ methods }) => methods.split(" ").includes(method));
    if (one === undefined) {
      throw found.length > 0 ? new Refusal(405, "Invalid method") : new Refusal(404, "");
    }
    for (const key of query.keys()) {
      const isTaken = COMMON.includes(key) || one.takes.split(" ").includes(key);
      if (!isTaken) throw new Refusal(400, `the stub takes no parameter ${key} there`);
    }
    if ((query.get("region") ?? "global") !== "global") throw new Refusal(500, "No path to region");
    const isAllowed = token === null || ["management", one.needs].some((need) => may(token, need));
    if (one.needs !== null && !isAllowed) throw new Refusal(403, PERMISSION_DENIED);
    const [, id = ""] = one.path.exec(path) ?? [];
    return one.answer(asked, decodeURIComponent(id));
  }

  function may({ may: can }: StubToken, need: string | null): boolean {
    return need !== null && can.includes(need);
  }

  function register(body: string): object {
    const { Job, EnforceIndex, JobModifyIndex } = decode<{
      Job?: Spec;
      EnforceIndex?: boolean;
      JobModifyIndex?: number;
    }>(BODIES.register, body);
    if (!Job) throw new Refusal(400, "Job must be specified");
    if (!Job["ID"]) throw new Refusal(400, "Job ID hasn't been provided");
    const job = state.register(Job, EnforceIndex === true ? (JobModifyIndex ?? 0) : null);
    const { JobModifyIndex: index } = job;
    return { EvalID: "", EvalCreateIndex: 0, JobModifyIndex: index, Warnings: "", Index: index };
  }

  function compileOptional(filter: string | null): (row: object) => boolean {
    return filter === null ? () => true : compileFilter(filter);
  }

  function find(id: string) {
    const allocation = state.allocations.get(id);
    if (allocation === undefined) throw new Refusal(404, "alloc not found");
    return [allocation, ...row(allocation)] as const;
  }

  /** Frames, one object after another without a word between them. */
  async function logs(query: URLSearchParams, response: ServerResponse, id: string): Promise<void> {
    const [allocation, job] = find(id);
    const task = query.get("task") ?? "";
    const type = query.get("type");
    if (task === "") throw new Refusal(400, "must provide task name");
    if (type !== "stdout" && type !== "stderr") {
      throw new Refusal(400, "must provide log type (stdout/stderr)");
    }
    if (job?.spec["TaskGroups"][0].Tasks[0].Name !== task) {
      throw new Refusal(400, `unknown task name "${task}"`);
    }
    if (allocation.ClientStatus === "pending") {
      throw new Refusal(404, `task "${task}" not started yet. No logs available`);
    }
    const isFollowed = query.get("follow") === "true";
    response.writeHead(200, { "content-type": "application/json" });
    response.flushHeaders();
    let offset = Number(query.get("offset") ?? "0");
    const closed = new Promise((resolve) => response.once("close", resolve));
    // A followed one does not end with its task.
    while (!response.destroyed) {
      const printed = Buffer.from(allocation.log[type]).subarray(offset, offset + FRAME_BYTES);
      if (printed.length > 0) {
        offset += printed.length;
        const File = `alloc/logs/${task}.${type}.0`;
        response.write(JSON.stringify({ Offset: offset, Data: printed.toString("base64"), File }));
      } else if (!isFollowed) {
        response.end();
        return;
      } else {
        response.write("{}");
        await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, FOLLOW_MS))]);
      }
      if (isOver(allocation) && !isFollowed && printed.length === 0) response.end();
    }
  }
}
