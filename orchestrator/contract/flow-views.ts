/** Flows as they are asked for and shown: one flow, its queries, and "allow this". */
import { type Static, Type } from "typebox";
import { EgressRule } from "./egress.ts";
import { EXPORT_FORMATS, FLOW_GROUPS, FLOW_PAGE_MAX } from "./flow-choices.ts";
import { FlowFilter, FlowRecord } from "./flows.ts";

export type FlowListQuery = Static<typeof FlowListQuery>;
export const FlowListQuery = Type.Object(
  {
    ...FlowFilter.properties,
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: FLOW_PAGE_MAX })),
    cursor: Type.Optional(
      Type.String({ minLength: 1, maxLength: 1000, description: "`next_cursor` of a page" }),
    ),
  },
  { additionalProperties: false },
);

export const FlowTotalsQuery = Type.Object(
  { ...FlowFilter.properties, by: Type.Enum(FLOW_GROUPS) },
  { additionalProperties: false },
);

export const FlowExportQuery = Type.Object(
  { ...FlowFilter.properties, format: Type.Enum(EXPORT_FORMATS) },
  { additionalProperties: false },
);

/** `GET /api/v1/flows/:id`. */
export type FlowDetail = Static<typeof FlowDetail>;
export const FlowDetail = Type.Object(
  {
    flow: FlowRecord,
    is_withheld: Type.Boolean({
      description: "Headers and bodies are null for this caller's role: they need an operator's",
    }),
  },
  { additionalProperties: false },
);

/** `POST /api/v1/flows/:id/propose`: a rule that would let such a flow through. */
export type ProposeRule = Static<typeof ProposeRule>;
export const ProposeRule = Type.Object(
  {
    is_dry_run: Type.Optional(
      Type.Boolean({ description: "Only says what would be asked; nothing is filed" }),
    ),
  },
  { additionalProperties: false },
);

export type RuleProposal = Static<typeof RuleProposal>;
export const RuleProposal = Type.Object(
  {
    project: Type.String(),
    rule: EgressRule,
    diff: Type.String({ description: "Of the project file's `egress`, as a unified diff" }),
    approval_id: Type.Union([Type.String(), Type.Null()], {
      description: "What was filed; null for a dry run",
    }),
  },
  { additionalProperties: false },
);
