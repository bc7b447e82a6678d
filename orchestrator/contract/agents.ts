/** What is known of a coding-agent CLI without running it; each plugin states its own. */
import { type Static, Type } from "typebox";

/** The model protocol a CLI speaks to the gateway. */
export type Wire = Static<typeof Wire>;
export const Wire = Type.Union([
  Type.Literal("openai.chat"),
  Type.Literal("openai.completions"),
  Type.Literal("openai.embeddings"),
  Type.Literal("openai.responses"),
  Type.Literal("anthropic.messages"),
]);

/** The model of a pair that a phase uses. */
export type Side = Static<typeof Side>;
export const Side = Type.Union([Type.Literal("normal"), Type.Literal("thinking")]);

export type AgentFacts = Static<typeof AgentFacts>;
export const AgentFacts = Type.Object(
  {
    name: Type.String({ pattern: "^[a-z][a-z0-9-]{1,30}$" }),
    title: Type.String(),
    package_source: Type.Union([
      Type.Literal("npm"),
      Type.Literal("pypi"),
      Type.Literal("builtin"),
    ]),
    package_name: Type.String(),
    version: Type.String({ description: "The pinned version, the one its plugin was tried with" }),
    license: Type.String(),
    is_redistributable: Type.Boolean(),
    wire: Wire,
    pair_mode: Type.Union([Type.Literal("native"), Type.Literal("phases")]),
    is_exit_code_trusted: Type.Boolean(),
    budget_stop_status: Type.Union([
      Type.Literal(400),
      Type.Literal(401),
      Type.Literal(402),
      Type.Literal(403),
    ]),
    prompt_floor_tokens: Type.Integer({
      minimum: 0,
      description: "The least input of a first call: what the CLI's own prompt and tools weigh",
    }),
    needs_tool_calls: Type.Boolean({
      description: "It edits by tools that the model calls; one that edits by text needs none",
    }),
  },
  { additionalProperties: false },
);

export type AgentStatus = Static<typeof AgentStatus>;
export const AgentStatus = Type.Object(
  {
    facts: AgentFacts,
    installed_version: Type.Union([Type.String(), Type.Null()]),
  },
  { additionalProperties: false },
);

/** One line of an installation's progress (newline-delimited JSON). */
export type InstallProgress = Static<typeof InstallProgress>;
export const InstallProgress = Type.Object(
  {
    agent: Type.String(),
    step: Type.Union([
      Type.Literal("already_installed"),
      Type.Literal("installing"),
      Type.Literal("checking"),
      Type.Literal("installed"),
      Type.Literal("failed"),
    ]),
    detail: Type.String(),
  },
  { additionalProperties: false },
);

export type AgentList = Static<typeof AgentList>;
export const AgentList = Type.Object(
  { agents: Type.Array(AgentStatus) },
  { additionalProperties: false },
);
