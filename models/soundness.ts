/**
 * Which agent works with which pair: what an agent asks of both its models (its protocol, tool
 * calls, room beside its own prompt) against what they have. Pure.
 */
import type { AgentFacts, Side } from "../orchestrator/contract/agents.ts";
import type { PlanStep } from "../orchestrator/contract/models.ts";
import type { Soundness, SoundnessReason } from "../orchestrator/contract/system.ts";
import type { ModelCard } from "./card.ts";
import type { CatalogModel, ModelPair } from "./catalog.ts";

/** For the task, a file and a short answer: with less than this nothing is done. */
const ROOM_TOKENS_MIN = 4_096;
/** To read in, beside the longest answer, before a conversation has to be shortened. */
const READING_TOKENS = 8_192;

type ReasonKind = SoundnessReason["kind"];
const SIDES: readonly Side[] = ["normal", "thinking"];
/** What of a pair only limits an agent; all else stops it. */
const LIMITS: ReadonlySet<ReasonKind> = new Set(["plans_blind", "little_room"]);

/** What a pair is served with, where it is less than its cards say: by a plan, by hand. */
export type ServedContexts = Partial<Readonly<Record<Side, number>>>;

/**
 * `sound`: every phase works; `limited`: it works, worse than it could; `unsound`: it fails.
 * A model without a card is somebody else's: it is taken to call tools.
 */
export function soundnessOf(
  agent: AgentFacts,
  pair: ModelPair,
  cards: ReadonlyMap<string, ModelCard>,
  served: ServedContexts = {},
): Soundness {
  const reasons = SIDES.flatMap((side) => {
    const model = pair[side];
    const contextTokens = Math.min(served[side] ?? model.contextTokens, model.contextTokens);
    return [
      ...protocol(agent, model),
      ...tools(agent, side, cards.get(model.name)),
      ...room(agent, model, contextTokens),
    ];
  });
  const [worst] = reasons.toSorted((a, b) => Number(isLimit(a)) - Number(isLimit(b)));
  const verdict = worst === undefined ? "sound" : isLimit(worst) ? "limited" : "unsound";
  return { agent: agent.name, verdict, reasons };
}

/** The table of docs/models.md: a row for each pair that runs real models, a column an agent. */
export function soundnessTable(
  agents: readonly AgentFacts[],
  pairs: readonly ModelPair[],
  cards: ReadonlyMap<string, ModelCard>,
): string {
  const rows = pairs
    .filter((pair) => !pair.isScripted)
    .map((pair) => [
      `\`${pair.name}\``,
      ...agents.map((agent) => cell(soundnessOf(agent, pair, cards))),
    ]);
  const head = ["pair", ...agents.map(({ name }) => name)];
  return [head, head.map(() => "---"), ...rows]
    .map((cells) => `| ${cells.join(" | ")} |\n`)
    .join("");
}

/**
 * What a plan says of agents: with what it would serve, and in `advice` those that its contexts
 * alone keep from working.
 */
export function agentsOfPlan(
  agents: readonly AgentFacts[],
  pair: ModelPair,
  cards: ReadonlyMap<string, ModelCard>,
  served: ServedContexts,
): { step: PlanStep; advice: string[] } {
  const found = agents.map((agent) => soundnessOf(agent, pair, cards, served));
  const calculation = [...Map.groupBy(found, cell)]
    .map(([verdict, same]) => `${same.map(({ agent }) => agent).join(", ")}: ${verdict}`)
    .join("; ");
  const advice = agents.flatMap((agent, index) => {
    const isForContext = soundnessOf(agent, pair, cards).verdict !== "unsound";
    const { verdict, reasons } = found[index] as Soundness;
    if (verdict !== "unsound" || !isForContext) return [];
    const why = reasons.find((reason) => !isLimit(reason))?.detail;
    return [`${agent.name} does not work with these contexts: ${why}`];
  });
  const source = 'docs/models.md, "Which agent with which pair"';
  return { step: { what: "agents that work with it", calculation, source }, advice };
}

function protocol({ name, wire }: AgentFacts, model: CatalogModel): SoundnessReason[] {
  if (model.wires.includes(wire)) return [];
  const detail = `${name} speaks ${wire}, ${model.name} ${model.wires.join(", ")}`;
  return [{ kind: "other_protocol", detail }];
}

function tools(
  { needs_tool_calls: needsTools }: AgentFacts,
  side: Side,
  card: ModelCard | undefined,
): SoundnessReason[] {
  if (!needsTools || card === undefined) return [];
  if (card.toolParser === null) {
    const detail = `the card of ${card.name} names no tool parser: vLLM refuses calls with tools`;
    return [{ kind: "no_parser", detail }];
  }
  if (card.callsTools) return [];
  return side === "normal"
    ? [{ kind: "no_tools", detail: `${card.name} calls no tools, so that nothing is edited` }]
    : [{ kind: "plans_blind", detail: `${card.name} calls no tools: it plans without looking` }];
}

function room(
  { prompt_floor_tokens: floorTokens }: AgentFacts,
  { name, maxOutputTokens }: CatalogModel,
  contextTokens: number,
): SoundnessReason[] {
  const roomTokens = contextTokens - floorTokens;
  const taken = `the agent's own prompt takes ${floorTokens} of ${name}'s ${contextTokens} tokens`;
  if (roomTokens < ROOM_TOKENS_MIN) {
    return [{ kind: "no_room", detail: `${taken}; ${ROOM_TOKENS_MIN} must be left` }];
  }
  const leftTokens = roomTokens - maxOutputTokens;
  if (leftTokens >= READING_TOKENS) return [];
  const left =
    leftTokens < 0
      ? `an answer of ${maxOutputTokens} is cut`
      : `beside an answer of ${maxOutputTokens}, ${leftTokens} are left to read in`;
  return [{ kind: "little_room", detail: `${taken}: ${left}` }];
}

function cell({ verdict, reasons }: Soundness): string {
  const kinds = new Set(reasons.map(({ kind }) => kind.replaceAll("_", " ")).toSorted());
  return kinds.size === 0 ? verdict : `${verdict}: ${[...kinds].join(", ")}`;
}

function isLimit({ kind }: SoundnessReason): boolean {
  return LIMITS.has(kind);
}
