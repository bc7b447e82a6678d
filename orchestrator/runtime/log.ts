/** The log: pino's JSON lines on standard error, with what must never be read there cut out. */
import { destination, type Logger, pino } from "pino";

export type Log = Logger;
export type LogLevel = "silent" | "error" | "warn" | "info" | "debug";

/** Field names, at the top and one level down, whose values are secrets or prompts. */
const SECRET_FIELDS = [
  "authorization",
  "cookie",
  "api_key",
  "x-api-key",
  "token",
  "secret",
  "password",
  "virtual_key",
  "enrolment_token",
  "prompt",
];

/** `file`: where the lines go; standard error when absent. */
export function createLog(level: LogLevel, file?: string): Log {
  const paths = SECRET_FIELDS.flatMap((field) => {
    const key = `["${field}"]`;
    return [key, `*${key}`, `req.headers${key}`, `res.headers${key}`];
  });
  const stream = destination({ dest: file ?? 2, sync: true, mkdir: true });
  const redact = { paths, censor: "[redacted]" };
  const err = (error: unknown) => {
    return error instanceof Error ? pino.stdSerializers.err(withoutParameters(error)) : error;
  };
  return pino({ level, redact, serializers: { err }, base: null }, stream);
}

/** A failed statement names its parameters in its message too: prompts, answers, whole files. */
function withoutParameters(error: Error & { query?: unknown; params?: unknown }): Error {
  const cause = error.cause instanceof Error ? withoutParameters(error.cause) : error.cause;
  const { query, params } = error;
  if (params === undefined && cause === error.cause) return error;
  const message = params === undefined ? error.message : `Failed query: ${String(query)}`;
  const { params: _, ...fields } = error;
  const stack = error.stack ?? "";
  const frames = stack.slice(stack.indexOf(error.message) + error.message.length);
  return Object.assign(new Error(message), fields, {
    name: error.name,
    stack: `${error.name}: ${message}${frames}`,
    ...(cause === undefined ? {} : { cause }),
  });
}
