/** What fields, headers and variables are called whose values are secrets. */

export type NameClass = "password" | "secret" | "token" | "credentials";

const PASSWORDS = ["password", "passwd", "passphrase", "pwd", "passcode"];
const SECRETS = [
  "secret",
  "credential",
  "credentials",
  "apikey",
  "accesskey",
  "secretkey",
  "privatekey",
  "signingkey",
  "encryptionkey",
  "masterkey",
  "accountkey",
  "sharedkey",
  "authkey",
  "sessionkey",
  "subscriptionkey",
  "functionskey",
  "deploykey",
  "accesskeyid",
  "connectionstring",
];
const TOKENS = ["token", "jwt", "sessionid", "sessid"];
const CREDENTIALS = ["authorization", "cookie", "setcookie"];
/** Of pages, of text, and of what is shown to everybody. */
const NO_TOKENS =
  /(?:page|next|continuation|continue|sync|cursor|start|end|eos|bos|pad|unk|mask|sep|cls|stop|special|first|last|by)token$/;

/** Null: nothing that is kept from anybody. `name` in any case, with any of `-`, `_` and `.`. */
export function classOfName(name: string): NameClass | null {
  const plain = name.toLowerCase().replaceAll(/[-_.[\]]/g, "");
  if (plain.length > 60) return null;
  if (PASSWORDS.some((end) => plain.endsWith(end))) return "password";
  if (SECRETS.some((end) => plain.endsWith(end))) return "secret";
  if (CREDENTIALS.some((end) => plain.endsWith(end))) return "credentials";
  if (TOKENS.some((end) => plain.endsWith(end)) && !NO_TOKENS.test(plain)) return "token";
  return null;
}

/** What names end in, for whoever looks for them in text. */
export const NAME_ENDS: readonly string[] = [...PASSWORDS, ...SECRETS, ...TOKENS, ...CREDENTIALS];

const HEADERS = new Set([
  "api-key",
  "apikey",
  "x-amz-security-token",
  "x-goog-api-key",
  "x-nomad-token",
  "x-consul-token",
  "x-vault-token",
  "x-csrf-token",
  "x-xsrf-token",
  "x-registry-auth",
  "x-functions-key",
  "ocp-apim-subscription-key",
  "x-shopify-access-token",
  "x-auth",
  "x-key",
]);

/** What stands in a header's value's place; null when it may be read. */
export function kindOfHeader(name: string): string | null {
  const lower = name.toLowerCase();
  if (lower === "authorization" || lower === "proxy-authorization") return "authorization";
  if (lower === "cookie" || lower === "set-cookie" || lower === "set-cookie2") return "cookie";
  if (lower === "sec-websocket-key" || lower === "sec-websocket-accept") return null;
  const named = HEADERS.has(lower) || classOfName(lower) !== null;
  return named ? lower.replaceAll(/[^a-z0-9]/g, "_") : null;
}

const PARAMETERS = new Set([
  "sig",
  "signature",
  "xamzsignature",
  "xamzcredential",
  "xgoogsignature",
  "xgoogcredential",
  "key",
  "auth",
  "hmac",
  "code",
  "assertion",
  "samlresponse",
]);

/** Of a query or a form. */
export function isSecretParameter(name: string): boolean {
  if (classOfName(name) !== null) return true;
  return PARAMETERS.has(name.toLowerCase().replaceAll(/[-_]/g, ""));
}
