/**
 * Flows: what workers sent and got, and why they might.
 *
 * Who reads what: a viewer sees each flow's meta, as in lists and totals. Headers and bodies are an
 * operator's, and so is whatever would tell of them: a search for text, and exports. Everything
 * was redacted before it was recorded; nothing more is taken out here.
 */
import { Readable } from "node:stream";
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import type { FastifyRequest } from "fastify";
import { FLOW_PAGE_MAX } from "../../contract/flow-choices.ts";
import {
  FlowDetail,
  FlowExportQuery,
  FlowListQuery,
  FlowTotalsQuery,
  ProposeRule,
  RuleProposal,
} from "../../contract/flow-views.ts";
import { FlowFilter, FlowPage, type FlowRecord, FlowTotals } from "../../contract/flows.ts";
import { Problem } from "../../problem.ts";
import { isId, type ProjectId } from "../../runtime/ids.ts";
import { withoutContents } from "../../traffic/filter.ts";
import { harPieces } from "../../traffic/har.ts";
import type { FlowQuery } from "../../traffic/traffic.ts";
import { IdempotencyHeaders, runOnce } from "../run-once.ts";
import type { Services } from "../services.ts";
import type { Api } from "./api.ts";
import { streamFlows } from "./flow-stream.ts";
import { IdParams, idOf, PAGE_LIMIT, queryId } from "./paging.ts";
import type { StreamSettings } from "./trial-streams.ts";

const tags = ["flows"];

type Needed = Pick<Services, "traffic" | "flows" | "projects" | "idempotency" | "clock">;

/** `version`: the product's, for exports. */
export function flowRoutes(
  services: Needed,
  settings: StreamSettings & { version: string },
): FastifyPluginAsyncTypebox {
  const { traffic } = services;
  return async (api) => {
    api.get(
      "/flows",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "Flows, the newest first; `text` needs the role operator",
          querystring: FlowListQuery,
          response: { 200: FlowPage },
        },
      },
      async (request) => {
        const { limit = PAGE_LIMIT, cursor, ...filter } = request.query;
        const query = await queryOf(services, request, filter);
        const page = { limit: Math.min(limit, FLOW_PAGE_MAX) };
        return traffic.search(query, cursor === undefined ? page : { ...page, cursor });
      },
    );

    api.get(
      "/flows/totals",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "Flows, refusals, errors and bytes, by what they have in common",
          querystring: FlowTotalsQuery,
          response: { 200: FlowTotals },
        },
      },
      async (request) => {
        const { by, ...filter } = request.query;
        return traffic.totals(await queryOf(services, request, filter), by);
      },
    );

    api.get(
      "/flows/live",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "Flows as they are stored, as text/event-stream; each at least once",
          querystring: FlowFilter,
        },
      },
      async (request, reply) => {
        const query = await queryOf(services, request, request.query);
        const last = request.headers["last-event-id"];
        const isPosition = typeof last === "string" && /^\d{1,15}$/.test(last);
        const after = isPosition ? Number(last) : null;
        await streamFlows(services, { query, after }, { request, reply }, settings);
        return reply;
      },
    );

    api.get(
      "/flows/:id",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "One flow, whole; to a viewer without its headers and bodies",
          params: IdParams,
          response: { 200: FlowDetail },
        },
      },
      async (request) => {
        const flow = await find(services, request.params.id);
        if (request.role === "viewer") return { flow: withoutContents(flow), is_withheld: true };
        return { flow, is_withheld: false };
      },
    );

    exports(api, services, settings.version);
    proposals(api, services);
  };
}

function exports(api: Api, services: Needed, version: string): void {
  api.get(
    "/flows/export",
    {
      config: { access: "operator" },
      schema: {
        tags,
        summary: "Whole flows, the oldest first: a record a line, or an HTTP Archive",
        querystring: FlowExportQuery,
      },
    },
    async (request, reply) => {
      const { format, ...filter } = request.query;
      const query = await queryOf(services, request, filter);
      const flows = await started(services.traffic.scan(query));
      const pieces = format === "har" ? harPieces(flows, version) : lines(flows);
      return reply
        .type(format === "har" ? "application/json" : "application/x-ndjson")
        .header("content-disposition", `attachment; filename="flows.${format}"`)
        .send(Readable.from(pieces));
    },
  );
}

function proposals(api: Api, services: Needed): void {
  api.post(
    "/flows/:id/propose",
    {
      config: { access: "operator" },
      schema: {
        tags,
        summary: "Ask that such flows be allowed: files a change of the project's policy",
        params: IdParams,
        headers: IdempotencyHeaders,
        body: ProposeRule,
        response: { 200: RuleProposal },
      },
    },
    async (request, reply) => {
      const flow = await find(services, request.params.id);
      const isDryRun = request.body.is_dry_run ?? false;
      await runOnce(services, { request, reply, status: 200, isRepeatable: false }, () =>
        services.flows.propose(flow, { isDryRun }),
      );
      return reply;
    },
  );
}

/** The filter in the port's words. @throws Problem when it asks for what is not the caller's. */
async function queryOf(
  { projects }: Pick<Services, "projects">,
  { role }: FastifyRequest,
  { project, ...filter }: FlowFilter,
): Promise<FlowQuery> {
  if (filter.text !== undefined && role === "viewer") {
    throw new Problem(
      "forbidden",
      "querystring.text: it looks into headers and bodies, which needs the role operator",
    );
  }
  const trial = filter.trial_id;
  if (trial !== undefined) queryId("trial", "trial_id", trial);
  if (project === undefined) return filter;
  return { ...filter, projectId: (await projects.get(project)).id as ProjectId };
}

async function find({ traffic }: Pick<Services, "traffic">, id: string): Promise<FlowRecord> {
  // People copy it from tables, which leave the kind out.
  const flow = await traffic.find(idOf("flow", isId("flow", `flow_${id}`) ? `flow_${id}` : id));
  if (flow !== null) return flow;
  throw new Problem("not_found", "No flow has this id: it never came, or its retention is over");
}

/** Waits for the first, so that a store that is away is a problem and not a cut-off answer. */
async function started(flows: AsyncIterable<FlowRecord>): Promise<AsyncIterable<FlowRecord>> {
  const iterator = flows[Symbol.asyncIterator]();
  const first = await iterator.next();
  return whole();

  async function* whole(): AsyncGenerator<FlowRecord> {
    try {
      if (first.done === true) return;
      yield first.value;
      for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) {
        yield next.value;
      }
    } finally {
      await iterator.return?.();
    }
  }
}

async function* lines(flows: AsyncIterable<FlowRecord>): AsyncGenerator<string> {
  for await (const flow of flows) yield `${JSON.stringify(flow)}\n`;
}
