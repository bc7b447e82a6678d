/** Budgets: balances, statements, top-ups, reports and the spend export. */
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { Type } from "typebox";
import {
  AdherenceReport,
  Budget,
  BudgetEventList,
  BudgetList,
  BudgetReport,
  CostGrouping,
  CostReport,
  Income,
  ProfitReport,
  Statement,
  TopUp,
} from "../../contract/budgets.ts";
import { IdempotencyHeaders, runOnce } from "../run-once.ts";
import type { Services } from "../services.ts";
import type { Api } from "./api.ts";
import { PAGE_LIMIT, PageQuery } from "./paging.ts";

const tags = ["budgets"];
/** A budget's name is a project's, or a trial's id. */
const NameParams = Type.Object({ name: Type.String({ maxLength: 100 }) });
const Day = Type.String({
  pattern: "^\\d{4}-\\d{2}-\\d{2}(T\\d{2}:\\d{2}(:\\d{2}(\\.\\d{1,9})?)?(Z|[+-]\\d{2}:\\d{2}))?$",
  description: "A day, or an RFC 3339 time",
});

const StatementQuery = Type.Object(
  {
    ...PageQuery.properties,
    unit: Type.Optional(Type.Union([Type.Literal("money"), Type.Literal("tokens")])),
  },
  { additionalProperties: false },
);

type Needed = Pick<Services, "budgets" | "idempotency">;

export function budgetRoutes(services: Needed): FastifyPluginAsyncTypebox {
  const { budgets } = services;
  return async (api) => {
    api.get(
      "/budgets",
      {
        config: { access: "viewer" },
        schema: { tags, summary: "All budgets", response: { 200: BudgetList } },
      },
      async () => ({ budgets: await budgets.list() }),
    );

    api.get(
      "/budgets/:name",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "One budget and those that enclose it, now or at a past time",
          params: NameParams,
          querystring: Type.Object({ at: Type.Optional(Day) }, { additionalProperties: false }),
          response: { 200: BudgetReport },
        },
      },
      (request) => budgets.get(request.params.name, request.query.at),
    );

    api.get(
      "/budgets/:name/statement",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "What moved and what it left, newest first",
          params: NameParams,
          querystring: StatementQuery,
          response: { 200: Statement },
        },
      },
      (request) => {
        const { unit = "money" } = request.query;
        return budgets.statement(request.params.name, { ...pageOf(request.query), unit });
      },
    );

    changes(api, services);
    reports(api, budgets);
    exports(api, budgets);
  };
}

function changes(api: Api, services: Needed): void {
  const { budgets } = services;
  api.post(
    "/budgets/:name/topup",
    {
      config: { access: "admin" },
      schema: {
        tags,
        summary: "Fund the budget, once for one Idempotency-Key",
        params: NameParams,
        headers: IdempotencyHeaders,
        body: TopUp,
        response: { 200: Budget },
      },
    },
    async (request, reply) => {
      await runOnce(services, { request, reply, status: 200, isRepeatable: true }, (key) =>
        budgets.topUp(request.params.name, request.body, key),
      );
      return reply;
    },
  );

  api.post(
    "/budgets/:name/income",
    {
      config: { access: "admin" },
      schema: {
        tags,
        summary: "Record what was earned with a project or a trial, once for one Idempotency-Key",
        params: NameParams,
        headers: IdempotencyHeaders,
        body: TopUp,
        response: { 200: Income },
      },
    },
    async (request, reply) => {
      await runOnce(services, { request, reply, status: 200, isRepeatable: true }, (key) =>
        budgets.recordIncome(request.params.name, request.body, key),
      );
      return reply;
    },
  );
}

function reports(api: Api, budgets: Services["budgets"]): void {
  api.get(
    "/budgets/:name/events",
    {
      config: { access: "viewer" },
      schema: {
        tags,
        summary: "Marks passed, allowances given and lapsed, newest first",
        params: NameParams,
        querystring: PageQuery,
        response: { 200: BudgetEventList },
      },
    },
    (request) => budgets.events(request.params.name, pageOf(request.query)),
  );

  api.get(
    "/budgets/:name/profit",
    {
      config: { access: "viewer" },
      schema: {
        tags,
        summary: "Income less cost of a project, by agent and model pair",
        params: NameParams,
        response: { 200: ProfitReport },
      },
    },
    (request) => budgets.profit(request.params.name),
  );

  api.get(
    "/budgets/:name/costs",
    {
      config: { access: "viewer" },
      schema: {
        tags,
        summary: "Cost of a project and cost per success, by agent and pair, task or phase",
        params: NameParams,
        querystring: Type.Object(
          { by: Type.Optional(CostGrouping) },
          { additionalProperties: false },
        ),
        response: { 200: CostReport },
      },
    },
    (request) => budgets.costs(request.params.name, request.query.by ?? "agent_pair"),
  );

  api.get(
    "/budgets/:name/adherence",
    {
      config: { access: "viewer" },
      schema: {
        tags,
        summary: "Limit and most ever used of each of a project's budgets, and the proof",
        params: NameParams,
        querystring: PageQuery,
        response: { 200: AdherenceReport },
      },
    },
    (request) => budgets.adherence(request.params.name, pageOf(request.query)),
  );
}

function pageOf({ limit = PAGE_LIMIT, before }: { limit?: number; before?: string }) {
  return before === undefined ? { limit } : { limit, before };
}

function exports(api: Api, budgets: Services["budgets"]): void {
  api.get(
    "/budgets/:name/export",
    {
      config: { access: "viewer" },
      schema: {
        tags,
        summary: "A project's spend, a line a call, in FOCUS columns or as JSON",
        params: NameParams,
        querystring: Type.Object(
          {
            format: Type.Optional(Type.Union([Type.Literal("csv"), Type.Literal("json")])),
            since: Type.Optional(Day),
            until: Type.Optional(Day),
          },
          { additionalProperties: false },
        ),
      },
    },
    async (request, reply) => {
      const { format = "csv", ...period } = request.query;
      const text = await budgets.exportSpend(request.params.name, { format, ...period });
      return reply
        .type(format === "csv" ? "text/csv; charset=utf-8" : "application/json; charset=utf-8")
        .header("content-disposition", `attachment; filename="spend.${format}"`)
        .send(text);
    },
  );
}
