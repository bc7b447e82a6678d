/** The egress policy: what is in force, and what it says of a request. */
import type { Decision, EffectivePolicy, EgressQuestion } from "../../contract/egress.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import { chooseProject } from "../defaults.ts";
import { EXIT, usage } from "../failure.ts";
import type { Column } from "../print.ts";

const PROJECT = {
  type: "string",
  value: "<name>",
  help: "Of this project (default: the only one)",
} as const;
const AGENT = { type: "string", short: "a", value: "<name>", help: "As for this agent" } as const;

type Rule = EffectivePolicy["rules"][number];

export const egressTest: Command = {
  name: "egress test",
  summary: "Say what the policy decides of a request, and by which rule; nothing is sent",
  positionals: [{ name: "url", isRequired: true }],
  options: {
    method: { type: "string", value: "<METHOD>", help: "The request's method (default: GET)" },
    agent: AGENT,
    project: PROJECT,
    json: JSON_OPTION,
  },
  async run({ positionals: [url = ""], options, print, connect }) {
    const method = options.text("method")?.toUpperCase();
    if (method !== undefined && !/^[A-Z]{1,20}$/.test(method)) {
      throw usage(`--method: "${method}" is no method, such as GET`);
    }
    const agent = options.text("agent");
    const client = await connect();
    const { name: project } = await chooseProject(client, options.text("project"));
    const question: EgressQuestion = {
      url,
      ...(method === undefined ? {} : { method }),
      ...(agent === undefined ? {} : { agent }),
    };
    const path = `projects/${encodeURIComponent(project)}/egress/decide`;
    const decision = await client.post<Decision>(path, question);
    if (options.flag("json")) print.json(decision);
    else {
      print.line(`${decision.action}  ${decision.reason}  ${decision.rule ?? "no rule"}`);
      print.line(decision.detail);
    }
    return decision.action === "deny" ? EXIT.refused : EXIT.done;
  },
};

export const egressPolicy: Command = {
  name: "egress policy",
  summary: "Show the rules in force, in the order they are read; the first that matches decides",
  options: { agent: AGENT, project: PROJECT, json: JSON_OPTION },
  async run({ options, print, connect }) {
    const agent = options.text("agent");
    const client = await connect();
    const { name: project } = await chooseProject(client, options.text("project"));
    const query = agent === undefined ? "" : `?agent=${encodeURIComponent(agent)}`;
    const path = `projects/${encodeURIComponent(project)}/egress${query}`;
    const policy = await client.get<EffectivePolicy>(path);
    if (options.flag("json")) print.json(policy);
    else if (policy.kind === "open") print.line("egress is open: nobody decides, or records, it");
    else {
      print.line(`mode        ${policy.mode}`);
      for (const name of SETTINGS) if (policy[name]) print.line(`setting     ${name}`);
      const bytes = policy.request_bytes_per_trial_max;
      if (bytes !== null) print.line(`sends       ${bytes} bytes a trial at most`);
      if (policy.rules.length > 0) print.table(COLUMNS, policy.rules);
      print.line("What no rule matches is refused.");
    }
    return EXIT.done;
  },
};

const SETTINGS = ["require_isolation", "require_record", "llm_through_proxy"] as const;

const COLUMNS: readonly Column<Rule>[] = [
  { title: "rule", value: ({ place }) => place },
  { title: "action", value: ({ rule }) => rule.action },
  { title: "methods", value: ({ rule }) => rule.methods?.join(",") ?? "any" },
  { title: "hosts", value: ({ rule }) => `${rule.hosts.join(" ")}${portsOf(rule)}` },
  { title: "paths", value: ({ rule }) => rule.paths?.join(" ") ?? "any" },
];

function portsOf({ ports, is_private: isPrivate }: Rule["rule"]): string {
  const numbers = ports === undefined ? "" : `:${ports.join(",")}`;
  return `${numbers}${isPrivate === true ? " private" : ""}`;
}
