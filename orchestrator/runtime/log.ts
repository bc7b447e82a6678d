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
  return pino({ level, redact: { paths, censor: "[redacted]" }, base: null }, stream);
}
