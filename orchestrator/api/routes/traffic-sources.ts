/** Who records flows, and whether all that was recorded arrived: the proof of completeness. */
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { TrafficSourceList } from "../../contract/flows.ts";
import type { Services } from "../services.ts";

export function trafficSourceRoutes({
  traffic,
  trafficSources,
  log,
}: Pick<Services, "traffic" | "trafficSources" | "log">): FastifyPluginAsyncTypebox {
  return async (api) => {
    api.get(
      "/traffic/sources",
      {
        config: { access: "viewer" },
        schema: {
          tags: ["flows"],
          summary: "The processes that record flows, and what of theirs is missing in the store",
          response: { 200: TrafficSourceList },
        },
      },
      async () => {
        const sources = await trafficSources.list();
        const kept = await traffic.countBySource(sources.map(({ id }) => id)).catch((error) => {
          // What is missing is known without the store; how much it has now is not.
          log.warn({ err: error }, "store of traffic not counted");
          return null;
        });
        return {
          sources: sources.map((source) => ({
            ...source,
            kept_count: kept === null ? null : (kept.get(source.id) ?? 0),
          })),
        };
      },
    );
  };
}
