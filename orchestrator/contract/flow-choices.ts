/** What flows are grouped by, exported as and paged in: values alone, so commands load fast. */
export const FLOW_PAGE_MAX = 200;

export const FLOW_GROUPS = ["host", "trial", "agent", "hour", "action", "status"] as const;
export type FlowGroup = (typeof FLOW_GROUPS)[number];

export const EXPORT_FORMATS = ["jsonl", "har"] as const;
export type ExportFormat = (typeof EXPORT_FORMATS)[number];
