/**
 * A hub of the Hugging Face kind over HTTP: which commit a repository is at, which files a commit
 * has, and their bytes. Its shapes are those that huggingface_hub reads: hf_api.py (`model_info`,
 * `list_repo_tree`), file_download.py (`http_get`), utils/_pagination.py, utils/_http.py.
 *
 * Invariant: the token is sent to the hub's own origin and nowhere else, as its contents are on
 * other hosts, which are told all they need by the address that they are asked with.
 */
import { setTimeout as wait } from "node:timers/promises";
import { Type } from "typebox";
import { Compile } from "typebox/compile";
import { Agent, type Dispatcher, request } from "undici";
import { Problem } from "../problem.ts";

export interface HubFile {
  readonly path: string;
  readonly size: number;
  /** Git's own hash of a small file (sha1 of "blob <size>\0" and it); sha256 of a large one. */
  readonly hash: { readonly algorithm: "sha256" | "git-sha1"; readonly hex: string };
}

export interface HubBody {
  /** Where its bytes begin: what was asked for, or 0 where the host sends only whole files. */
  readonly fromByte: number;
  readonly bytes: AsyncIterable<Uint8Array>;
}

export interface Hub extends AsyncDisposable {
  readonly url: string;
  /** The commit of a revision (null: of its main branch). @throws Problem as all of these. */
  commit(repository: string, revision: string | null, signal: AbortSignal): Promise<string>;
  /** All files of a commit. */
  files(repository: string, commit: string, signal: AbortSignal): Promise<HubFile[]>;
  /** A file's bytes from one on. @throws HubFault when trying again may help. */
  open(
    file: { repository: string; commit: string; path: string },
    fromByte: number,
    signal: AbortSignal,
  ): Promise<HubBody>;
  /**
   * Does `work` again, later and later, while it throws HubFault. `work` says by `hasProgress`
   * that it came further, so that a long file on a bad line is not given up.
   *
   * @throws Problem `unavailable` with the last fault's words.
   */
  retrying<Result>(
    work: (hasProgress: () => void) => Promise<Result>,
    signal: AbortSignal,
  ): Promise<Result>;
}

export interface HubOptions {
  url: string;
  /** Asked for each request; null: without one. */
  token: () => Promise<string | null>;
  /** The most silence before an answer, and between two chunks of it. */
  silenceMs?: number;
  /** Of one request, without any progress between them. */
  tries?: number;
  /** Before the second; doubled for each after it. */
  retryMs?: number;
}

/** What may pass: a broken connection, a busy hub. `message` is the hub's or the connection's. */
export class HubFault extends Error {
  override readonly name = "HubFault";
  /** As the hub says; null where it does not. */
  readonly retryAfterMs: number | null;
  /** The bytes that were asked for are not there: what is here is more than the file. */
  readonly isRange: boolean;

  constructor(message: string, facts: Partial<Pick<HubFault, "retryAfterMs" | "isRange">> = {}) {
    super(message);
    this.retryAfterMs = facts.retryAfterMs ?? null;
    this.isRange = facts.isRange ?? false;
  }
}

const SILENCE_MS = 60_000;
const TRIES = 6;
const RETRY_MS = 1_000;
const RETRY_MS_MAX = 60_000;
const REDIRECTS_MAX = 5;
const PAGES_MAX = 100;
const ANSWER_BYTES_MAX = 32 * 1024 * 1024;
const WORDS_MAX = 300;
const TRANSIENT = new Set([408, 425, 429, 500, 502, 503, 504]);

const ModelInfo = Compile(Type.Object({ sha: Type.String({ pattern: "^[0-9a-f]{40}$" }) }));
const Tree = Compile(
  Type.Array(
    Type.Object({
      type: Type.String(),
      path: Type.String(),
      oid: Type.String(),
      size: Type.Integer({ minimum: 0 }),
      lfs: Type.Optional(
        Type.Object({ oid: Type.String({ pattern: "^[0-9a-f]{64}$" }), size: Type.Integer() }),
      ),
    }),
  ),
);

export function createHub(options: HubOptions): Hub {
  const { token, silenceMs = SILENCE_MS, tries = TRIES, retryMs = RETRY_MS } = options;
  const root = options.url.replace(/\/+$/, "");
  const base = new URL(root);
  const agent = new Agent({
    connect: { timeout: Math.min(silenceMs, 30_000) },
    headersTimeout: silenceMs,
    bodyTimeout: silenceMs,
  });
  return {
    url: root,
    commit,
    files,
    open,
    retrying,
    [Symbol.asyncDispose]: () => agent.destroy(),
  };

  async function commit(
    repository: string,
    revision: string | null,
    signal: AbortSignal,
  ): Promise<string> {
    const at = `revision/${encodeURIComponent(revision ?? "main")}`;
    const { value } = await json(`${root}/api/models/${repository}/${at}`, repository, signal);
    if (ModelInfo.Check(value)) return value.sha;
    throw strange(repository, "names no commit (sha) of it");
  }

  async function files(
    repository: string,
    revision: string,
    signal: AbortSignal,
  ): Promise<HubFile[]> {
    const found: HubFile[] = [];
    let next: string | null = `${root}/api/models/${repository}/tree/${revision}?recursive=true`;
    for (let page = 0; next !== null && page < PAGES_MAX; page++) {
      const answer: { value: unknown; next: string | null } = await json(next, repository, signal);
      if (!Tree.Check(answer.value)) throw strange(repository, "lists its files in another form");
      for (const { type, path, oid, size, lfs } of answer.value) {
        if (type !== "file") continue;
        const hash = { algorithm: lfs ? "sha256" : "git-sha1", hex: lfs?.oid ?? oid } as const;
        found.push({ path, size: lfs?.size ?? size, hash });
      }
      next = answer.next;
    }
    return found;
  }

  async function open(
    { repository, commit: at, path }: { repository: string; commit: string; path: string },
    fromByte: number,
    signal: AbortSignal,
  ): Promise<HubBody> {
    const name = path.split("/").map(encodeURIComponent).join("/");
    const url = `${root}/${repository}/resolve/${at}/${name}`;
    const range = fromByte === 0 ? {} : { range: `bytes=${fromByte}-` };
    const { statusCode, headers, body } = await send(url, repository, range, signal);
    const [, start] = /^bytes (\d+)-/.exec(String(headers["content-range"] ?? "")) ?? [];
    const isPart = statusCode === 206;
    if (isPart && Number(start) !== fromByte) {
      await body.dump({ limit: 0 }).catch(() => {});
      throw new HubFault(`the hub sent ${path} from byte ${start ?? "?"}, not ${fromByte}`);
    }
    return { fromByte: isPart ? fromByte : 0, bytes: chunks(body, path, signal) };
  }

  async function json(
    url: string,
    repository: string,
    signal: AbortSignal,
  ): Promise<{ value: unknown; next: string | null }> {
    return retrying(async () => {
      const { headers, body } = await send(url, repository, {}, signal);
      const parts: Uint8Array[] = [];
      let length = 0;
      for await (const chunk of chunks(body, base.host, signal)) {
        parts.push(chunk);
        length += chunk.length;
        if (length > ANSWER_BYTES_MAX) throw strange(repository, "answers without an end");
      }
      const [, next] = /<([^>]+)>;\s*rel="next"/.exec(String(headers["link"] ?? "")) ?? [];
      try {
        // A mirror may name the public hub: the page is asked of whom we were told to ask.
        const value: unknown = JSON.parse(Buffer.concat(parts).toString("utf8"));
        return { value, next: next === undefined ? null : onBase(next) };
      } catch {
        throw strange(repository, "answers what is no JSON");
      }
    }, signal);
  }

  function onBase(url: string): string {
    const { pathname, search } = new URL(url, base);
    return new URL(pathname + search, base).href;
  }

  /** Follows redirects; the token goes no further than the hub. */
  async function send(
    url: string,
    repository: string,
    headers: Record<string, string>,
    signal: AbortSignal,
  ): Promise<Dispatcher.ResponseData> {
    let target = new URL(url);
    for (let hop = 0; hop <= REDIRECTS_MAX; hop++) {
      const answer = await ask(target, headers, signal);
      const { statusCode, headers: told, body } = answer;
      if (statusCode === 200 || statusCode === 206) return answer;
      if (statusCode >= 300 && statusCode < 400 && told["location"] !== undefined) {
        await body.dump().catch(() => {});
        target = await redirected(target, String(told["location"]), repository);
        continue;
      }
      throw await refusal(answer, repository, target);
    }
    throw strange(repository, `redirects more than ${REDIRECTS_MAX} times`);
  }

  async function ask(
    url: URL,
    headers: Record<string, string>,
    signal: AbortSignal,
  ): Promise<Dispatcher.ResponseData> {
    const key = url.origin === base.origin ? await token() : null;
    try {
      return await request(url, {
        dispatcher: agent,
        signal,
        headers: {
          "user-agent": "autocode",
          "accept-encoding": "identity",
          ...headers,
          ...(key === null ? {} : { authorization: `Bearer ${key}` }),
        },
      });
    } catch (cause) {
      throw broken(cause, url.host, signal);
    }
  }

  async function redirected(from: URL, location: string, repository: string): Promise<URL> {
    if (!URL.canParse(location, from)) throw strange(repository, "redirects to no address");
    const to = new URL(location, from);
    const isSafe =
      to.protocol === "https:" || (to.protocol === "http:" && from.protocol === "http:");
    if (!isSafe) throw strange(repository, `redirects from ${from.protocol} to ${to.protocol}`);
    return to;
  }

  async function refusal(
    { statusCode: status, headers, body }: Dispatcher.ResponseData,
    repository: string,
    { host }: URL,
  ): Promise<Error> {
    const text = await body.text().catch(() => "");
    const words = wordsOf(String(headers["x-error-message"] ?? ""), text);
    const said = `${host} answered ${status}${words === "" ? "" : ` (${words})`}`;
    if (TRANSIENT.has(status)) {
      const seconds = Number(headers["retry-after"]);
      const retryAfterMs = Number.isFinite(seconds) && seconds >= 0 ? seconds * 1_000 : null;
      return new HubFault(said, { retryAfterMs });
    }
    if (status === 416) return new HubFault(said, { isRange: true });
    // The address of a file's contents is good for a time: the hub is asked for another.
    if (host !== base.host) return new HubFault(said);
    if (status === 401 || status === 403) {
      const isGated = headers["x-error-code"] === "GatedRepo";
      const fix = isGated
        ? `accept its terms at ${root}/${repository} with the token's account`
        : "check the repository's name in the model's card";
      return new Problem(
        "conflict",
        `The hub does not give ${repository}: ${said}: ${fix}, and give a token: ` +
          "`autocode secret put provider/huggingface/key`, or HF_TOKEN",
      );
    }
    if (status === 404) {
      return new Problem("not_found", `The hub has no such thing of ${repository}: ${said}`);
    }
    return new Problem("upstream_failed", `The hub failed for ${repository}: ${said}`);
  }

  function strange(repository: string, what: string): Problem {
    return new Problem(
      "upstream_failed",
      `The hub at ${base.host} ${what} (${repository}): is AUTOCODE_WEIGHTS_URL one of the ` +
        "Hugging Face kind?",
    );
  }

  async function retrying<Result>(
    work: (hasProgress: () => void) => Promise<Result>,
    signal: AbortSignal,
  ): Promise<Result> {
    for (let failed = 0; ; ) {
      let isFurther = false;
      try {
        return await work(() => {
          isFurther = true;
        });
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof HubFault)) throw error;
        failed = isFurther ? 1 : failed + 1;
        if (failed >= tries) {
          const detail = `The hub at ${base.host} cannot be used: ${error.message}`;
          throw new Problem("unavailable", `${detail}. Pull again: what came is kept`, {
            cause: error,
          });
        }
        const delayMs = error.retryAfterMs ?? retryMs * 2 ** (failed - 1);
        await wait(Math.min(delayMs, RETRY_MS_MAX), undefined, { signal });
      }
    }
  }
}

async function* chunks(
  body: Dispatcher.ResponseData["body"],
  what: string,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of body) yield chunk as Uint8Array;
  } catch (cause) {
    throw broken(cause, what, signal);
  }
}

function broken(cause: unknown, what: string, signal: AbortSignal): unknown {
  if (signal.aborted) return signal.reason;
  const { message, code = "" } = cause as NodeJS.ErrnoException;
  return new HubFault(`${what}: ${message || code || "the connection broke"}`);
}

/** The hub's own words: its header, else its JSON's, in one line. */
function wordsOf(header: string, body: string): string {
  const [, inBody = ""] = /"error"\s*:\s*"([^"]+)"/.exec(body) ?? [];
  return (header || inBody).replaceAll(/\s+/g, " ").trim().slice(0, WORDS_MAX);
}
