/** The pairs port: what a model pair's name means for a project, priced in its currency. */
import type { AgentFacts } from "../contract/agents.ts";
import type { ProjectFile } from "../contract/projects.ts";
import type { PairStatus } from "../contract/system.ts";
import type { GrantedModel } from "../keys/keys.ts";

export interface ResolvedPair {
  name: string;
  isScripted: boolean;
  /** The normal and the thinking model, each with the price in force now. */
  models: readonly [GrantedModel, GrantedModel];
}

export interface Pairs {
  /**
   * @throws Problem `invalid_request` for a pair that is unknown, has no provider here, or does
   * not speak the agent's wire; `unpriced_model` for one without a price.
   */
  resolve(file: ProjectFile, pair: string, agent: AgentFacts): ResolvedPair;
  /** @throws Problem `invalid_request`: the file's `models` are not valid. */
  check(file: ProjectFile): void;
  list(file: ProjectFile | null): PairStatus[];
}
