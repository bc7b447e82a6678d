/**
 * Artefacts that grow while the allocation runs, uploaded by offset so that they can be watched
 * live. Memory holds only what is not uploaded yet, and no artefact grows past its limit.
 */
import { pause } from "./clock.ts";

const CHUNK_BYTES = 1_048_576;
const UPLOAD_EVERY_MS = 500;

export interface Artefact {
  /** Appends; what exceeds the limit is left out, and said so once at the end of the artefact. */
  append(bytes: Uint8Array | string): void;
  /** Whether the limit was met. */
  isFull(): boolean;
  /** Resolves when all that was appended is uploaded. @throws what the upload threw. */
  flush(): Promise<void>;
}

export interface ArtefactOptions {
  readonly name: string;
  readonly maxBytes: number;
  /** Ends the artefact when its limit is met. */
  readonly fullNote?: string;
}

type Put = (name: string, offset: number, bytes: Uint8Array) => Promise<void>;

/** An empty artefact; nothing is uploaded before something is appended. */
export function createArtefact(
  put: Put,
  { name, maxBytes, fullNote = "" }: ArtefactOptions,
): Artefact {
  let pending: Uint8Array[] = [];
  let acceptedBytes = 0;
  let uploadedBytes = 0;
  let hasMetLimit = false;
  let failure: unknown = null;
  let uploading: Promise<void> | null = null;
  const hurry = { now: new AbortController() };
  return { append, isFull: () => hasMetLimit, flush };

  function append(bytes: Uint8Array | string): void {
    if (hasMetLimit || failure !== null) return;
    let data = typeof bytes === "string" ? Buffer.from(bytes) : bytes;
    if (acceptedBytes + data.byteLength > maxBytes) {
      hasMetLimit = true;
      data = Buffer.from(fullNote);
    }
    if (data.byteLength === 0) return;
    acceptedBytes += data.byteLength;
    pending.push(data);
    start();
  }

  function start(): void {
    if (uploading !== null || failure !== null) return;
    uploading = uploadAll()
      .catch((error: unknown) => {
        failure = error;
        pending = [];
      })
      .finally(() => {
        uploading = null;
        if (pending.length > 0) start();
      });
  }

  async function uploadAll(): Promise<void> {
    while (pending.length > 0) {
      await pause(UPLOAD_EVERY_MS, hurry.now.signal);
      const whole = Buffer.concat(pending);
      pending = [];
      for (let at = 0; at < whole.byteLength; at += CHUNK_BYTES) {
        const chunk = whole.subarray(at, at + CHUNK_BYTES);
        await put(name, uploadedBytes, chunk);
        uploadedBytes += chunk.byteLength;
      }
    }
  }

  async function flush(): Promise<void> {
    hurry.now.abort();
    while (uploading !== null) await uploading;
    hurry.now = new AbortController();
    if (failure !== null) throw failure;
  }
}
