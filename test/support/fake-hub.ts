/**
 * A hub of the Hugging Face kind on this machine, for the weight store: its API on one port, the
 * large files' contents on another, which the hub redirects to. It can cut, stall, lie and refuse.
 */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { ModelCard } from "../../models/card.ts";

export const COMMIT = "a".repeat(40);

export interface FakeRepository {
  commit: string;
  files: Map<string, Buffer>;
}

export interface SeenRequest {
  host: "hub" | "cdn";
  path: string;
  authorization: string | null;
  range: string | null;
}

/** What happens to one answer; the first of `faults` whose `path` is in the address is used up. */
export interface Fault {
  path: string;
  /** How often; absent: once. */
  times?: number;
  /** The contents' own host, or the hub. Absent: either. */
  host?: "hub" | "cdn";
  does:
    | { kind: "status"; status: number; headers?: Record<string, string>; body?: string }
    /** The connection ends after so many bytes of the body. */
    | { kind: "cut"; afterBytes: number }
    /** Nothing more comes after so many bytes. */
    | { kind: "stall"; afterBytes: number }
    /** A whole and orderly answer, of other bytes. */
    | { kind: "bytes"; bytes: Buffer }
    | { kind: "no_ranges" };
}

export interface FakeHub extends AsyncDisposable {
  url: string;
  repositories: Map<string, FakeRepository>;
  faults: Fault[];
  seen: SeenRequest[];
  /** Asked of who names a repository; null: nothing is. */
  token: string | null;
  /** More entries of every tree, as they are. */
  extraEntries: object[];
  /** How many entries a page of a tree has. */
  pageSize: number;
}

export async function openFakeHub(): Promise<FakeHub> {
  const held: { hub: FakeHub | null } = { hub: null };
  const cdn = await listen((request, response) => {
    if (held.hub !== null) serveContents(held.hub, request, response);
  });
  const api = await listen((request, response) => {
    if (held.hub !== null) serveHub(held.hub, cdn.url, request, response);
  });
  const hub: FakeHub = {
    url: api.url,
    repositories: new Map(),
    faults: [],
    seen: [],
    token: null,
    extraEntries: [],
    pageSize: 1000,
    async [Symbol.asyncDispose]() {
      await Promise.all([api.close(), cdn.close()]);
    },
  };
  held.hub = hub;
  return hub;
}

function serveHub(
  hub: FakeHub,
  cdnUrl: string,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const url = new URL(request.url ?? "/", hub.url);
  note(hub, "hub", request);
  const fault = takeFault(hub, "hub", url.pathname);
  if (fault?.kind === "status") {
    sendStatus(response, fault);
    return;
  }
  if (hub.token !== null && request.headers.authorization !== `Bearer ${hub.token}`) {
    const headers = { "x-error-code": "GatedRepo", "x-error-message": "Access is restricted" };
    sendStatus(response, { kind: "status", status: 401, headers });
    return;
  }
  const [, api, name = "", what, rest = ""] =
    /^\/(api\/models\/)?([^/]+\/[^/]+)\/(revision|tree|resolve)\/(.+)$/.exec(url.pathname) ?? [];
  const repository = hub.repositories.get(name);
  if (repository === undefined) {
    const headers = { "x-error-code": "RepoNotFound", "x-error-message": "Repository not found" };
    sendStatus(response, { kind: "status", status: 404, headers });
    return;
  }
  if (api !== undefined && what === "revision") {
    sendJson(response, { sha: repository.commit });
    return;
  }
  if (api !== undefined && what === "tree") {
    sendTree(hub, repository, url, response);
    return;
  }
  const path = decodeURIComponent(rest.slice(rest.indexOf("/") + 1));
  const bytes = repository.files.get(path);
  if (bytes === undefined) {
    const headers = { "x-error-code": "EntryNotFound", "x-error-message": "Entry not found" };
    sendStatus(response, { kind: "status", status: 404, headers });
    return;
  }
  if (!isLarge(path)) {
    sendBytes(request, response, bytes, fault);
    return;
  }
  response.writeHead(302, {
    location: `${cdnUrl}/${name}/${path}?Signature=good`,
    "content-length": 0,
  });
  response.end();
}

function serveContents(hub: FakeHub, request: IncomingMessage, response: ServerResponse): void {
  const { pathname } = new URL(request.url ?? "/", hub.url);
  note(hub, "cdn", request);
  const fault = takeFault(hub, "cdn", pathname);
  if (fault?.kind === "status") {
    sendStatus(response, fault);
    return;
  }
  const [, name = "", path = ""] = /^\/([^/]+\/[^/]+)\/(.+)$/.exec(pathname) ?? [];
  const bytes = hub.repositories.get(name)?.files.get(path) ?? Buffer.alloc(0);
  sendBytes(request, response, bytes, fault);
}

function sendTree(
  hub: FakeHub,
  { files }: FakeRepository,
  url: URL,
  response: ServerResponse,
): void {
  const entries = [
    ...hub.extraEntries,
    ...[...files].map(([path, bytes]) => ({
      type: "file",
      path,
      size: bytes.length,
      oid: gitHash(bytes),
      ...(isLarge(path) && {
        lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 134 },
      }),
    })),
  ];
  const from = Number(url.searchParams.get("cursor") ?? 0);
  const page = entries.slice(from, from + hub.pageSize);
  const next = from + hub.pageSize;
  const more = new URL(url);
  more.searchParams.set("cursor", String(next));
  const link = next < entries.length ? { link: `<${more.href}>; rel="next"` } : {};
  sendJson(response, page, link);
}

function sendBytes(
  request: IncomingMessage,
  response: ServerResponse,
  bytes: Buffer,
  fault: Fault["does"] | null,
): void {
  const whole = fault?.kind === "bytes" ? fault.bytes : bytes;
  const [, from] = /^bytes=(\d+)-$/.exec(request.headers.range ?? "") ?? [];
  const start = fault?.kind === "no_ranges" ? 0 : Number(from ?? 0);
  if (start > 0 && start >= whole.length) {
    sendStatus(response, { kind: "status", status: 416 });
    return;
  }
  const body = whole.subarray(start);
  const isPart = from !== undefined && fault?.kind !== "no_ranges";
  response.writeHead(isPart ? 206 : 200, {
    "content-length": body.length,
    ...(isPart && { "content-range": `bytes ${start}-${whole.length - 1}/${whole.length}` }),
  });
  if (fault?.kind === "cut") {
    response.write(body.subarray(0, fault.afterBytes), () => request.socket.destroySoon());
  } else if (fault?.kind === "stall") {
    response.write(body.subarray(0, fault.afterBytes));
  } else {
    response.end(body);
  }
}

function takeFault(hub: FakeHub, host: "hub" | "cdn", path: string): Fault["does"] | null {
  const index = hub.faults.findIndex(
    (fault) => decodeURIComponent(path).includes(fault.path) && (fault.host ?? host) === host,
  );
  const fault = hub.faults[index];
  if (fault === undefined) return null;
  const times = fault.times ?? 1;
  if (times === 1) hub.faults.splice(index, 1);
  else hub.faults[index] = { ...fault, times: times - 1 };
  return fault.does;
}

function note(hub: FakeHub, host: "hub" | "cdn", { url = "", headers }: IncomingMessage): void {
  const authorization = headers.authorization ?? null;
  hub.seen.push({ host, path: url, authorization, range: headers.range ?? null });
}

function sendStatus(
  response: ServerResponse,
  { status, headers = {}, body = "" }: Extract<Fault["does"], { kind: "status" }>,
): void {
  response.writeHead(status, headers);
  response.end(body);
}

function sendJson(response: ServerResponse, value: unknown, headers: object = {}): void {
  response.writeHead(200, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(value));
}

/** What the hub keeps as a large file: contents on another host, known by their sha256. */
function isLarge(path: string): boolean {
  return /\.(safetensors|bin|onnx)$/.test(path) || path === "tokenizer.json";
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function gitHash(bytes: Uint8Array): string {
  return createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
}

/** A safetensors file of one tensor of `length` bytes that `seed` begins. */
export function tensors(length: number, seed = 0): Buffer {
  const header = Buffer.from(
    JSON.stringify({ w: { dtype: "U8", shape: [length], data_offsets: [0, length] } }),
  );
  const head = Buffer.alloc(8);
  head.writeBigUInt64LE(BigInt(header.length));
  const data = Buffer.from(Array.from({ length }, (_, at) => (at * 31 + seed * 7) & 0xff));
  return Buffer.concat([head, header, data]);
}

/** A model of two weight files, with all that repositories have beside what a server needs. */
export function madeUpFiles(weightBytes = 300): Map<string, Buffer> {
  const text = (value: unknown) => Buffer.from(JSON.stringify(value));
  const [first, second] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
  return new Map([
    ["config.json", text(CONFIG)],
    ["generation_config.json", text({ temperature: 0.7 })],
    ["tokenizer.json", text({ version: "1.0" })],
    ["tokenizer_config.json", text({ chat_template: "{% if tools %}{{ tools }}{% endif %}" })],
    ["model.safetensors.index.json", text({ weight_map: { "a.w": first, "b.w": second } })],
    ["LICENSE", Buffer.from("Free to use\n")],
    ["README.md", Buffer.from("# Made up\n")],
    ["pytorch_model.bin", Buffer.from("pickled")],
    ["onnx/model.onnx", Buffer.from("another format")],
    [first, tensors(weightBytes, 1)],
    [second, tensors(weightBytes, 2)],
  ]);
}

/** The paths of those that a server needs, in order. */
export const NEEDED = [
  "LICENSE",
  "config.json",
  "generation_config.json",
  "model-00001-of-00002.safetensors",
  "model-00002-of-00002.safetensors",
  "model.safetensors.index.json",
  "tokenizer.json",
  "tokenizer_config.json",
];

export const CONFIG = {
  num_hidden_layers: 2,
  hidden_size: 64,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 512,
};

export function madeUpCard(changes: Partial<ModelCard> = {}): ModelCard {
  return {
    name: "made-up-1b",
    title: "Made up",
    licence: { id: "apache-2.0", url: "https://licence.test/apache", needsAcceptance: false },
    parameters: { total: 1_000, active: 1_000 },
    architecture: {
      ...{ layers: 2, hidden: 64, intermediate: 128, experts: null, heads: 4, kvHeads: 2 },
      ...{ headDim: 16, vocabulary: 512, contextTokens: 4_096, dtype: "bf16" },
      hasTiedEmbeddings: false,
    },
    quantisations: [
      {
        ...{ name: "bf16", repository: "made/up", revision: null, isAtLoad: false },
        weightBytes: 600,
      },
      {
        ...{ name: "fp8", repository: "made/up", revision: null, isAtLoad: true },
        weightBytes: 300,
      },
    ],
    callsTools: true,
    toolParser: { name: "hermes", plugin: null },
    reasoningParser: null,
    chatTemplate: null,
    sampling: { temperature: 0.7, topP: 0.8, topK: null, repetitionPenalty: null },
    contextTokens: 4_096,
    maxOutputTokens: 1_024,
    source: "made up",
    ...changes,
  };
}

async function listen(
  handler: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<{ url: string; close(): Promise<void> }> {
  const server: Server = createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const close = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return { url: `http://127.0.0.1:${port}`, close };
}
