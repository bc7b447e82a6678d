/** The access port: who may use the API. Tokens are random, stored hashed, and most expire. */
import type { ApiRole, ApiToken, ApiTokenFacts, NewApiToken } from "../contract/tokens.ts";

export type Role = ApiRole;

/** Whose token it is. `name` is a named token's; null for the command line's and a session. */
export interface Caller {
  role: Role;
  name: string | null;
}

export interface Access {
  /**
   * Whose an API token or a session is; null when it is unknown, expired or revoked.
   *
   * @throws Problem `unauthenticated` for a named token that expired or was revoked: who holds it
   * is told which, and when.
   */
  authenticate(token: string): Promise<Caller | null>;
  /** A token for the command line of this machine; earlier ones are revoked, but for `kept`. */
  issueCliToken(kept?: readonly string[]): Promise<string>;
  /** The secret of a login link, good for one use within `validMs`. */
  issueLoginLink(validMs: number): Promise<string>;
  /** Exchanges a login link's secret for a session token; null when it is used or too old. */
  redeemLoginLink(secret: string): Promise<{ sessionToken: string; expiresAtMs: number } | null>;
  /** Ends a browser's session. */
  endSession(token: string): Promise<void>;
  /** A token for a program, which no start replaces. @throws Problem `conflict`: name is had. */
  createToken(wanted: NewApiToken): Promise<ApiToken>;
  /**
   * Another secret for a token that was never used, where its first may not have arrived: that one
   * is worth nothing from then on. @throws Problem `conflict` for one that was used or revoked.
   */
  renewToken(id: string): Promise<string>;
  /** Those that are not revoked, by name. */
  listTokens(): Promise<ApiTokenFacts[]>;
  /**
   * Revokes the token of that name; false when it was revoked before.
   *
   * @throws Problem `not_found` when there never was one.
   */
  revokeToken(name: string): Promise<boolean>;
}
