/** What models cost, why, and what a trial would have cost at other prices. */
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { Type } from "typebox";
import { CurrencyCode } from "../../contract/money.ts";
import { PriceList, PriceReport } from "../../contract/prices.ts";
import { RepriceRequest, Repricing } from "../../contract/repricing.ts";
import type { Services } from "../services.ts";
import { IdParams, idOf } from "./paging.ts";

const tags = ["prices"];
const WISH = {
  project: Type.Optional(Type.String({ maxLength: 100 })),
  currency: Type.Optional(CurrencyCode),
  at: Type.Optional(Type.String({ format: "date-time" })),
};

export function priceRoutes({ pricing }: Pick<Services, "pricing">): FastifyPluginAsyncTypebox {
  return async (api) => {
    api.get(
      "/prices",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "What a million tokens of each model cost, now or then",
          querystring: Type.Object(WISH, { additionalProperties: false }),
          response: { 200: PriceList },
        },
      },
      (request) => pricing.list(request.query),
    );

    api.get(
      "/prices/explain",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "How a model's price comes about, a step at a time",
          querystring: Type.Object(
            { model: Type.String({ minLength: 1, maxLength: 200 }), ...WISH },
            { additionalProperties: false },
          ),
          response: { 200: PriceReport },
        },
      },
      ({ query: { model, ...wish } }) => pricing.explain(model, wish),
    );

    api.post(
      "/trials/:id/reprice",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "What a trial's calls would have cost at other prices; nothing is moved",
          params: IdParams,
          body: RepriceRequest,
          response: { 200: Repricing },
        },
      },
      (request) => pricing.reprice(idOf("trial", request.params.id), request.body),
    );
  };
}
