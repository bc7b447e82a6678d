/**
 * TypeIDs (typeid.dev, spec 0.3): a kind, an underscore and a UUIDv7 in 26 base32 characters.
 * They sort by time, read well in logs and URLs, and are the idempotency keys of what they name.
 */
import { createHash } from "node:crypto";
import type { Clock } from "./clock.ts";
import type { Random } from "./random.ts";

/** Append only: a kind is part of rows, URLs and exports for ever. */
export const ID_KINDS = [
  "project",
  "account",
  "transfer",
  "task",
  "experiment",
  "trial",
  "allocation",
  "key",
  "call",
  "approval",
  "token",
  "log",
  "worker",
  "checkpoint",
  "process",
  "flow",
] as const;

export type IdKind = (typeof ID_KINDS)[number];
export type Id<Kind extends IdKind> = `${Kind}_${string}`;

export type ProjectId = Id<"project">;
export type AccountId = Id<"account">;
export type TransferId = Id<"transfer">;
export type TaskId = Id<"task">;
export type ExperimentId = Id<"experiment">;
export type TrialId = Id<"trial">;
export type AllocationId = Id<"allocation">;
export type KeyId = Id<"key">;
export type CallId = Id<"call">;
export type ApprovalId = Id<"approval">;
export type WorkerId = Id<"worker">;
export type CheckpointId = Id<"checkpoint">;
export type ProcessId = Id<"process">;
export type FlowId = Id<"flow">;

export interface Ids {
  next<Kind extends IdKind>(kind: Kind): Id<Kind>;
}

const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";

export function createIds(clock: Clock, random: Random): Ids {
  return { next };

  function next<Kind extends IdKind>(kind: Kind): Id<Kind> {
    const bytes = random.bytes(16).slice();
    let time = clock.now();
    for (let at = 5; at >= 0; at--) {
      bytes[at] = time % 256;
      time = Math.floor(time / 256);
    }
    // RFC 9562: version 7 in bits 76..79, variant 2 in bits 62..63.
    bytes[6] = 0x70 | ((bytes[6] ?? 0) & 0x0f);
    bytes[8] = 0x80 | ((bytes[8] ?? 0) & 0x3f);
    return `${kind}_${base32(bytes)}`;
  }
}

/** 128 bits in 26 digits, the first of three bits. A bigint would take ten times as long. */
function base32(bytes: Uint8Array): string {
  let text = "";
  let held = 0;
  let heldBits = 2;
  for (const byte of bytes) {
    held = ((held << 8) | byte) & 0xfff;
    heldBits += 8;
    for (; heldBits >= 5; heldBits -= 5) text += ALPHABET[(held >>> (heldBits - 5)) & 31];
  }
  return text;
}

/**
 * The one id of `kind` for these parts: what is done once for them (a day's allowance, a project's
 * total) is idempotent, whoever does it and after whatever crash.
 */
export function derivedId<Kind extends IdKind>(kind: Kind, ...parts: readonly string[]): Id<Kind> {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(`${Buffer.byteLength(part)}:`).update(part);
  const digest = hash.digest();
  let text = ALPHABET[(digest[0] ?? 0) & 7] ?? "";
  for (const byte of digest.subarray(1, 26)) text += ALPHABET[byte & 31];
  return `${kind}_${text}`;
}

/** Whether `text` has the form of an id of `kind`; says nothing of whether the thing exists. */
export function isId<Kind extends IdKind>(kind: Kind, text: string): text is Id<Kind> {
  return (
    text.startsWith(`${kind}_`) && /^[0-7][0-9a-hjkmnp-tv-z]{25}$/.test(text.slice(kind.length + 1))
  );
}
