/**
 * Credentials at the edge: placeholders become secrets for the hosts of a rule alone, and what a
 * worker brings of its own is found. Pure but for the secret that is read.
 *
 * Invariant: a secret is put only where the rule that decided names it; whatever else asks for one
 * is refused, and no answer is let back with it.
 */
import type { EgressRule } from "../../orchestrator/contract/egress.ts";
import { formsOf, percentReadings } from "./encodings.ts";
import type { Scrub } from "./guard.ts";

export type HeaderList = readonly (readonly [string, string])[];

export type Injection =
  | {
      readonly outcome: "done";
      readonly headers: HeaderList;
      /** Names, in lower case, of the headers whose value is ours now. */
      readonly ours: ReadonlySet<string>;
      readonly credentials: readonly string[];
      readonly scrubs: readonly Scrub[];
      readonly values: readonly string[];
    }
  | { readonly outcome: "failed"; readonly detail: string };

/** With these a worker would choose an answer's pieces, none of which holds a whole secret. */
const OF_PIECES = /^(range|if-range|request-range|x-ms-range)$/i;
const PLACEHOLDER = /\{\{secret:([^{}]{1,200})\}\}/g;

/** Headers that carry nothing but a credential. */
const CREDENTIAL_HEADERS = new Set([
  "authorization",
  "x-api-key",
  "api-key",
  "apikey",
  "x-auth-token",
  "x-access-token",
  "private-token",
  "job-token",
  "deploy-token",
  "x-goog-api-key",
  "x-amz-security-token",
  "x-vault-token",
  "x-gitlab-token",
  "x-github-token",
]);
const CREDENTIAL_PARAMETER =
  /[?&;](access_token|api_?key|private_token|auth_token|client_secret|password)=[^&]{8,}/i;

/** What keys and tokens look like; by the names of who gives them out. */
const TOKEN_SHAPES: readonly (readonly [string, RegExp])[] = [
  ["an API key", /\bsk-[A-Za-z0-9_-]{20,}/],
  ["an API key", /\b[sr]k_(live|test)_[A-Za-z0-9]{16,}/],
  ["a GitHub token", /\bgh[pousr]_[A-Za-z0-9]{30,}/],
  ["a GitHub token", /\bgithub_pat_[A-Za-z0-9_]{30,}/],
  ["a GitLab token", /\bgl(pat|dt|rt|ptt|cbt|agent)-[A-Za-z0-9_-]{20,}/],
  ["a Slack token", /\bxox[abeoprs]-[A-Za-z0-9-]{10,}/],
  ["an AWS key", /\b(AKIA|ASIA)[0-9A-Z]{16}\b/],
  ["a Google key", /\bAIza[0-9A-Za-z_-]{35}/],
  ["a Google token", /\bya29\.[0-9A-Za-z_-]{20,}/],
  ["an npm token", /\bnpm_[A-Za-z0-9]{36}/],
  ["a PyPI token", /\bpypi-[A-Za-z0-9_-]{50,}/],
  ["a Hugging Face token", /\bhf_[A-Za-z0-9]{30,}/],
  ["a Vault token", /\bhv[sbr]\.[A-Za-z0-9_-]{20,}/],
  ["a DigitalOcean token", /\bdo[opr]_v1_[a-f0-9]{64}/],
  ["a SendGrid key", /\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}/],
  ["a JSON Web Token", /\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*/],
  ["a private key", /-----BEGIN [A-Z ]*PRIVATE KEY/],
];
const SESSION_COOKIE = /(^|;\s*)[\w.-]*(session|token|auth|jwt|sid)[\w.-]*=[^;]{16,}/i;

/** What of a request is a credential that we did not put there; null when nothing is. */
export function foreignCredential(
  path: string,
  headers: HeaderList,
  ours: ReadonlySet<string>,
): string | null {
  if (CREDENTIAL_PARAMETER.test(path)) return "a credential in the URL's query";
  for (const reading of percentReadings(path)) {
    const shape = shapeOf(reading);
    if (shape !== null) return `${shape} in the URL`;
  }
  for (const [name, value] of headers) {
    const key = name.toLowerCase();
    if (ours.has(key) || value === "") continue;
    if (CREDENTIAL_HEADERS.has(key)) return `the header ${name}`;
    const shape = shapeOf(value);
    if (shape !== null) return `${shape} in the header ${name}`;
    if (key === "cookie" && SESSION_COOKIE.test(value)) return "the cookie of a session";
  }
  return null;
}

function shapeOf(text: string): string | null {
  return TOKEN_SHAPES.find(([, shape]) => shape.test(text))?.[0] ?? null;
}

/** The secrets that the headers ask for, by their placeholders, also inside of Basic. */
export function placeholdersIn(headers: HeaderList): string[] {
  const texts = headers.flatMap(([, value]) => [value, basicOf(value)?.text ?? ""]);
  return [
    ...new Set(
      texts.flatMap((text) => [...text.matchAll(PLACEHOLDER)].map(([, path = ""]) => path)),
    ),
  ];
}

/**
 * Puts the rule's credential in.
 *
 * @param readSecret null: there is no such secret; throws while the secrets are sealed.
 */
export async function injectCredential(
  rule: EgressRule | null,
  headers: HeaderList,
  readSecret: (path: string) => Promise<string | null>,
): Promise<Injection> {
  const credential = rule?.action === "inject" ? rule.credential : undefined;
  const asked = placeholdersIn(headers);
  const other = asked.find((path) => path !== credential?.secret);
  if (other !== undefined) {
    const detail = `the rule for this host does not put in the secret "${other}"`;
    return { outcome: "failed", detail };
  }
  const none = { headers, ours: new Set<string>(), credentials: [], scrubs: [], values: [] };
  if (credential === undefined) return { outcome: "done", ...none };
  if (asked.length === 0 && credential.header === undefined) return { outcome: "done", ...none };
  const read = await readValue(credential.secret, readSecret);
  if (read.outcome === "failed") return read;
  const { value } = read;
  const { header, format = "{}", secret } = credential;
  const replaced = replaceAll(headers, secret, value);
  const ours = new Set(replaced.ours);
  let sent = replaced.headers;
  if (header !== undefined) {
    const key = header.toLowerCase();
    sent = [
      ...sent.filter(([name]) => name.toLowerCase() !== key),
      [header, format.replace("{}", () => value)],
    ];
    ours.add(key);
  }
  const placeholder = `{{secret:${secret}}}`;
  const scrubs = [...replaced.encoded, ...formsOf(value)].map((form) => ({
    value: form,
    placeholder,
  }));
  const values = [value, ...replaced.encoded];
  sent = sent.filter(([name]) => !OF_PIECES.test(name));
  return { outcome: "done", headers: sent, ours, credentials: [secret], scrubs, values };
}

type Read = { outcome: "read"; value: string } | { outcome: "failed"; detail: string };

async function readValue(
  path: string,
  readSecret: (path: string) => Promise<string | null>,
): Promise<Read> {
  let value: string | null;
  try {
    value = await readSecret(path);
  } catch {
    // What the engine said is for its operator, not for a worker.
    return { outcome: "failed", detail: `the secret "${path}" cannot be read now` };
  }
  const trimmed = value?.trim() ?? "";
  if (trimmed === "") return { outcome: "failed", detail: `there is no secret "${path}"` };
  if (/[^\t\x20-\x7e\x80-\xff]/.test(trimmed)) {
    return { outcome: "failed", detail: `the secret "${path}" cannot stand in a header` };
  }
  return { outcome: "read", value: trimmed };
}

function replaceAll(headers: HeaderList, secret: string, value: string) {
  const ours: string[] = [];
  const encoded: string[] = [];
  const placeholder = `{{secret:${secret}}}`;
  const sent = headers.map(([name, text]): readonly [string, string] => {
    const basic = basicOf(text);
    if (basic?.text.includes(placeholder)) {
      ours.push(name.toLowerCase());
      const code = Buffer.from(basic.text.replaceAll(placeholder, () => value)).toString("base64");
      encoded.push(code);
      return [name, `${basic.scheme} ${code}`];
    }
    if (!text.includes(placeholder)) return [name, text];
    ours.push(name.toLowerCase());
    return [name, text.replaceAll(placeholder, () => value)];
  });
  return { headers: sent, ours, encoded };
}

function basicOf(value: string): { scheme: string; text: string } | null {
  const [, scheme, code] = /^(basic)\s+([A-Za-z0-9+/=_-]+)\s*$/i.exec(value) ?? [];
  if (scheme === undefined || code === undefined) return null;
  return { scheme, text: Buffer.from(code, "base64").toString() };
}
