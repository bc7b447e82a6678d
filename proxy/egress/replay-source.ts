/**
 * Where the guard finds what a replaying trial is answered: the recorded trial's own exchanges.
 * Of a replay nothing is forwarded and no name is resolved, whatever its policy allows.
 */
import type { EgressSession, RequestHead } from "./guard.ts";

export type ReplayAnswer =
  | {
      readonly outcome: "answer";
      readonly status: number;
      readonly headers: readonly (readonly [string, string])[];
      readonly body: Buffer;
    }
  /** The record has no such exchange (left); its trial was told. */
  | { readonly outcome: "diverged"; readonly detail: string };

export interface ReplaySource {
  /** Whether the trial is answered from a record alone. */
  isReplay(trialId: string): Promise<boolean>;
  /**
   * Asked once for each request that the policy allows, after it: an exchange of the record is
   * played once. The body of the request is not looked at.
   *
   * @throws Problem `unavailable` when the record cannot be read.
   */
  answerFor(
    session: Pick<EgressSession, "trialId" | "allocationId">,
    head: Pick<RequestHead, "method" | "scheme" | "target" | "path">,
  ): Promise<ReplayAnswer>;
}
