/** Elasticsearch as a store of traffic, held to the port's suite on the real server. */
import { test } from "node:test";
import { indexTemplates } from "../../../orchestrator/traffic/ecs-templates.ts";
import { elasticsearchSkip } from "../../support/elasticsearch.ts";
import { connectTraffic, openElasticsearchTraffic } from "../../support/elasticsearch-traffic.ts";
import { testTraffic } from "./conformance.ts";

testTraffic(
  "elasticsearch",
  async () => {
    const opened = await openElasticsearchTraffic();
    const { prefix } = opened;
    return { ...opened, away: () => connectTraffic({ url: "http://127.0.0.1:9", prefix }) };
  },
  { skip: elasticsearchSkip },
);

test("the templates are those we reviewed", (t) => {
  t.assert.fileSnapshot(indexTemplates("autocode"), "test/golden/elasticsearch-templates.json");
});
