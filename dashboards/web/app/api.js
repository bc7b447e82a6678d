/** The API as the UI asks it: JSON in, JSON out, and a refusal as an `ApiError` with its reason. */
import { heardFromServer } from "./server-clock.js";

/** What the server (or the network) said instead of an answer. */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {{ status: number, title: string, code: string }} facts status 0: it was not reached
   */
  constructor(message, { status, title, code }) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.title = title;
    this.code = code;
  }
}

/**
 * @param {string} path below `/api/v1`
 * @param {AbortSignal} [signal]
 */
export async function getJson(path, signal) {
  return (await request("GET", path, { signal, accept: "application/json" })).json();
}

/** @param {string} path @param {AbortSignal} [signal] */
export async function getText(path, signal) {
  return (await request("GET", path, { signal, accept: "text/plain, */*" })).text();
}

/**
 * @param {string} path below `/api/v1`
 * @param {unknown} [body]
 * @param {string} [idempotencyKey] the effect happens once for one key
 */
export async function postJson(path, body, idempotencyKey) {
  return (await request("POST", path, { body, idempotencyKey, accept: "application/json" })).json();
}

/** A key that no other request has: 128 random bits in hexadecimal. */
export function newIdempotencyKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * A query string of what is set, with its question mark.
 *
 * @param {Record<string, string | number | null | undefined>} values
 */
export function query(values) {
  const set = Object.entries(values).filter(([, value]) => value != null && value !== "");
  if (set.length === 0) return "";
  return `?${new URLSearchParams(set.map(([name, value]) => [name, String(value)]))}`;
}

/**
 * @param {string} method
 * @param {string} path
 * @param {{
 *   accept: string, body?: unknown, idempotencyKey?: string, signal?: AbortSignal,
 * }} options
 */
async function request(method, path, { accept, body, idempotencyKey, signal }) {
  /** @type {Record<string, string>} */
  const headers = { accept };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (idempotencyKey !== undefined) headers["idempotency-key"] = idempotencyKey;
  let response;
  try {
    response = await fetch(`/api/v1${path}`, {
      method,
      headers,
      credentials: "same-origin",
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(signal === undefined ? {} : { signal }),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError("autocode does not answer. Is it still running?", {
      status: 0,
      title: "Not reached",
      code: "unreachable",
    });
  }
  heardFromServer(response.headers.get("date"));
  if (!response.ok) throw await refusal(response);
  return response;
}

/** @param {Response} response */
async function refusal(response) {
  const fallback = `The server answered ${response.status}`;
  const problem = await response.json().catch(() => ({}));
  return new ApiError(typeof problem.detail === "string" ? problem.detail : fallback, {
    status: response.status,
    title: typeof problem.title === "string" ? problem.title : fallback,
    code: String(problem.type ?? "")
      .split("/")
      .pop(),
  });
}
