/** The access port: who may use the API. Tokens are random, stored hashed, and expire. */

export type Role = "admin" | "operator" | "viewer";

export interface Access {
  /** The role of an API token or a session; null when it is unknown, expired or revoked. */
  authenticate(token: string): Promise<Role | null>;
  /** A token for the command line of this machine; earlier ones are revoked, but for `kept`. */
  issueCliToken(kept?: readonly string[]): Promise<string>;
  /** The secret of a login link, good for one use within `validMs`. */
  issueLoginLink(validMs: number): Promise<string>;
  /** Exchanges a login link's secret for a session token; null when it is used or too old. */
  redeemLoginLink(secret: string): Promise<{ sessionToken: string; expiresAtMs: number } | null>;
  revoke(token: string): Promise<void>;
}
