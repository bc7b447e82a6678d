/** A store of traffic of one's own on the run's Elasticsearch, removed when disposed of. */
import assert from "node:assert/strict";
import { createLog } from "../../orchestrator/runtime/log.ts";
import {
  createElasticsearchTraffic,
  type ElasticsearchOptions,
} from "../../orchestrator/traffic/elasticsearch.ts";
import type { Traffic } from "../../orchestrator/traffic/traffic.ts";
import { elasticsearchUrl } from "./elasticsearch.ts";

const clock = { now: () => Date.UTC(2026, 10, 21) };
let opened = 0;

export interface ElasticsearchTraffic extends AsyncDisposable {
  traffic: Traffic;
  url: string;
  prefix: string;
  /** Resolves once what was appended is found. */
  settle(): Promise<void>;
}

/** `url`: of a server of one's own. */
export async function openElasticsearchTraffic(given?: string): Promise<ElasticsearchTraffic> {
  const url = given ?? (await elasticsearchUrl());
  const prefix = `test-${process.pid}-${++opened}`;
  const traffic = await connectTraffic({ url, prefix });
  return {
    ...{ traffic, url, prefix },
    settle: () => refreshIndices(url, prefix),
    [Symbol.asyncDispose]: async () => {
      await traffic[Symbol.asyncDispose]();
      // A server that its test killed keeps nothing for the next one.
      await removeIndices(url, prefix).catch((error: Error) => {
        if (error.message !== "fetch failed") throw error;
      });
    },
  };
}

export function connectTraffic(
  options: Pick<ElasticsearchOptions, "url" | "prefix">,
): Promise<Traffic> {
  const nobody = { apiKey: null, username: null, password: null, authorityFile: null };
  const log = createLog("silent");
  return createElasticsearchTraffic({ ...nobody, ...options }, { clock, log });
}

async function refreshIndices(url: string, prefix: string): Promise<void> {
  const answer = await fetch(`${url}/${prefix}-*/_refresh`, { method: "POST" });
  const text = await answer.text();
  assert.match(text, /"failed":0/, text);
}

/** By their names: a server may refuse to delete by a pattern. */
async function removeIndices(url: string, prefix: string): Promise<void> {
  const path = `${url}/${prefix}-*/_settings?filter_path=*.settings.index.uuid`;
  const found = (await (await fetch(path)).json()) as object;
  for (const name of Object.keys(found)) await fetch(`${url}/${name}`, { method: "DELETE" });
  for (const what of ["meta", "headers", "body"]) {
    await fetch(`${url}/_index_template/${prefix}-flows-${what}`, { method: "DELETE" });
  }
}
