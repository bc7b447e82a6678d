/** Contents on their way to the orchestrator: only those it lacks, many in one request. */
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { pack } from "tar-stream";
import { BLOB_BYTES_PER_REQUEST } from "../orchestrator/contract/checkpoints.ts";
import type { Client } from "./client.ts";

/** What memory holds before it is sent; one more content may exceed it. */
const BATCH_BYTES = 8 * 1_048_576;
const BATCH_COUNT = 500;

export interface Upload {
  /** Holds it until there is enough for a request. @throws what the client throws. */
  add(sha256: string, content: Buffer): Promise<void>;
  /** Sends what is left. */
  flush(): Promise<void>;
  /** Asks after everything again: the orchestrator may have lost what it had. */
  forget(): void;
}

export function createUpload(client: Pick<Client, "missingBlobs" | "putBlobs">): Upload {
  /** What the orchestrator has. */
  const known = new Set<string>();
  let batch = new Map<string, Buffer>();
  let byteCount = 0;
  return { add, flush, forget: () => known.clear() };

  async function add(sha256: string, content: Buffer): Promise<void> {
    if (known.has(sha256) || batch.has(sha256)) return;
    if (byteCount + content.byteLength > BLOB_BYTES_PER_REQUEST) await flush();
    batch.set(sha256, content);
    byteCount += content.byteLength;
    if (byteCount >= BATCH_BYTES || batch.size >= BATCH_COUNT) await flush();
  }

  async function flush(): Promise<void> {
    const sending = batch;
    batch = new Map();
    byteCount = 0;
    if (sending.size === 0) return;
    const missing = await client.missingBlobs([...sending.keys()]);
    const wanted = missing.flatMap((sha256) => {
      const content = sending.get(sha256);
      return content === undefined ? [] : [{ sha256, content }];
    });
    if (wanted.length > 0) await client.putBlobs(await archive(wanted));
    for (const sha256 of sending.keys()) known.add(sha256);
  }
}

async function archive(blobs: readonly { sha256: string; content: Buffer }[]): Promise<Buffer> {
  const entries = pack();
  for (const { sha256, content } of blobs) entries.entry({ name: sha256 }, content);
  entries.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of entries as AsyncIterable<Buffer>) chunks.push(chunk);
  return promisify(gzip)(Buffer.concat(chunks));
}
