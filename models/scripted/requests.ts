/** What tests and logs are told of a request to the scripted model; never its texts. */
import type { Dialect, Usage } from "./dialect.ts";
import type { Side } from "./script.ts";

export interface RequestSummary {
  method: string;
  path: string;
  status: number;
  wire?: Dialect["wire"];
  model?: string;
  side?: Side;
  script?: string;
  /** From 1; one more than the script has once it ran out. */
  step?: number;
  isStream?: boolean;
  tools?: readonly string[];
  usage?: Usage | null;
  fault?: "status" | "stall" | "cut" | "no_usage";
  error?: string;
  isAborted?: boolean;
}
