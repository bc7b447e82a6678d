/**
 * Closes an allocation's network: its processes reach the egress proxy and the gateway, through
 * relays of ours, and nothing else. Which way is taken depends on what the host lets us do:
 *
 * - `namespace` (root): a network namespace, whose other end the host's firewall guards; what is
 *   dropped is counted by its destination. Its processes see no files and processes of others.
 * - `sandbox` (any user, by bubblewrap): a network that has loopback alone.
 * - `none`: the proxy's variables are set, and a program that does not heed them is not held.
 *
 * Invariant: what `wrap` answers cannot take the closing away again: it has no capability, gains
 * none, and the firewall's table is not in its namespace.
 */
import type { RunAs } from "../config.ts";
import type { Rooms } from "../rooms.ts";

/** What is started; its environment reaches nothing that runs with our rights. */
export interface Command {
  readonly file: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly runAs: RunAs | null;
}

/** Packets that went nowhere since the last time they were told of. */
export interface Dropped {
  /** `address:port`, `[address]:port`, or the address alone where the protocol has no ports. */
  readonly destination: string;
  readonly protocol: string;
  readonly packets: number;
}

export interface IsolationRequest {
  readonly allocationId: string;
  readonly rooms: Rooms;
  /** Folders of which its processes see nothing but `kept` and their own rooms. */
  readonly hidden: readonly string[];
  readonly kept: readonly string[];
  readonly runAs: RunAs | null;
  /** `http://host:port`, of the egress proxy. */
  readonly proxyUrl: string;
  /** Null: there is none to be reached but through the proxy. */
  readonly gatewayUrl: string | null;
  /** Called for each destination, bounded; never after the end. */
  readonly onDropped: (dropped: Dropped) => void;
  /** Called once when the closing was taken away from outside: its network is off by then. */
  readonly onLost: (why: string) => void;
}

export interface Isolation extends AsyncDisposable {
  readonly kind: "namespace" | "sandbox" | "none";
  /** What it is, or why there is none: a sentence for people. */
  readonly detail: string;
  /** Where its processes reach the two; without credentials, as the request's were. */
  readonly proxyUrl: string;
  readonly gatewayUrl: string | null;
  /** The same command, in there. Its exit status says 128 + n where signal n ended it. */
  wrap(command: Command): Command;
}

export type OpenIsolation = (request: IsolationRequest) => Promise<Isolation>;
