/** Who asks the stub, and what they may. */
export interface StubToken {
  name: string;
  /** Capabilities, `node:read`, `node:write`, `agent:read`; `management`: all. */
  may: readonly string[];
  /** A workload's identity, which is no ACL token. */
  isWorkload?: boolean;
}

export const ANONYMOUS: StubToken = { name: "Anonymous Token", may: [] };
