/** The ledger's journal: how far it is, its export, and its check against the ledger. */
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { LedgerReport, LedgerStatus } from "../../contract/ledger.ts";
import type { Services } from "../services.ts";

const tags = ["ledger"];

export function ledgerRoutes({ journal }: Pick<Services, "journal">): FastifyPluginAsyncTypebox {
  return async (api) => {
    api.get(
      "/ledger",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "How far the journal is, and the key that signs it",
          response: { 200: LedgerStatus },
        },
      },
      () => journal.status(),
    );

    api.get(
      "/ledger/export",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary:
            "All accounts, transfers and checkpoints, one JSON a line, to be checked by anyone; " +
            "whole only with its `end` line",
        },
      },
      async (_request, reply) =>
        reply
          .type("application/x-ndjson")
          .header("content-disposition", 'attachment; filename="ledger.ndjson"')
          .send(await journal.open()),
    );

    api.get(
      "/ledger/verify",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "Whether the journal agrees with the transfers as they are now",
          response: { 200: LedgerReport },
        },
      },
      () => journal.verify(),
    );
  };
}
