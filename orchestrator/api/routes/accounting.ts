/** Traffic held against the ledger: alarms with their answers, and the daily reconciliation. */
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { Type } from "typebox";
import {
  Reconciliation,
  ReconciliationReport,
  UnmatchedAnswer,
  UnmatchedCall,
  UnmatchedCallList,
} from "../../contract/accounting.ts";
import { Problem } from "../../problem.ts";
import { isId } from "../../runtime/ids.ts";
import type { Services } from "../services.ts";
import { IdParams } from "./paging.ts";

const tags = ["traffic"];
const Day = Reconciliation.properties.day;

export function accountingRoutes({
  unmatched,
  reconciliations,
}: Pick<Services, "unmatched" | "reconciliations">): FastifyPluginAsyncTypebox {
  return async (api) => {
    api.get(
      "/traffic/unmatched",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "Paid calls without an entry in the ledger, and entries without a record",
          querystring: Type.Object(
            { answered: Type.Optional(Type.Boolean({ description: "Those with an answer too" })) },
            { additionalProperties: false },
          ),
          response: { 200: UnmatchedCallList },
        },
      },
      async (request) => ({
        unmatched: await unmatched.list({ isAnsweredToo: request.query.answered === true }),
      }),
    );

    api.post(
      "/traffic/unmatched/:id/answer",
      {
        config: { access: "operator" },
        schema: {
          tags,
          summary: "Settle an alarm: say what was found out",
          params: IdParams,
          body: UnmatchedAnswer,
          response: { 200: UnmatchedCall },
        },
      },
      async (request) => {
        const { id } = request.params;
        if (!isId("flow", id) && !isId("call", id)) {
          throw new Problem("not_found", `There is no unmatched call ${id}`);
        }
        return unmatched.answer(id, request.body.because);
      },
    );

    api.get(
      "/traffic/reconciliations",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "Our settled tokens beside what others counted, of a day or the last 30",
          querystring: Type.Object({ day: Type.Optional(Day) }, { additionalProperties: false }),
          response: { 200: ReconciliationReport },
        },
      },
      (request) => reconciliations.read(request.query.day),
    );

    api.post(
      "/traffic/reconciliations",
      {
        config: { access: "operator" },
        schema: {
          tags,
          summary: "Ask the providers what they counted on a day, and compare",
          body: Type.Object({ day: Day }, { additionalProperties: false }),
          response: { 200: ReconciliationReport },
        },
      },
      (request) => reconciliations.reconcile(request.body.day),
    );
  };
}
