/** Budgets: balances, statements, top-ups and the spend export. */
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { Type } from "typebox";
import { Budget, BudgetList, Statement, TopUp } from "../../contract/budgets.ts";
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
        schema: { tags, summary: "One budget", params: NameParams, response: { 200: Budget } },
      },
      (request) => budgets.get(request.params.name),
    );

    api.get(
      "/budgets/:name/statement",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "What moved, newest first",
          params: NameParams,
          querystring: PageQuery,
          response: { 200: Statement },
        },
      },
      (request) => {
        const { limit = PAGE_LIMIT, before } = request.query;
        const page = before === undefined ? { limit } : { limit, before };
        return budgets.statement(request.params.name, page);
      },
    );

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

    exports(api, budgets);
  };
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
