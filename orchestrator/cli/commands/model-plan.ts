/** `model plan`: whether a pair fits, how fast it then is, what it costs, what to change. */
import type { HardwareList, PairPlan, PlanRequest } from "../../contract/models.ts";
import type { Client } from "../client.ts";
import { type Command, JSON_OPTION, type Option, type Values } from "../command.ts";
import { EXIT, usage } from "../failure.ts";
import { planLines } from "../plan-text.ts";

type Quantisation = NonNullable<PlanRequest["quantisation"]>;

/** What a plan is asked for by: of every command that plans. */
export const PLAN_OPTIONS: Readonly<Record<string, Option>> = {
  gpu: { type: "string", value: "<NxGPU>", help: "2xh100 (this machine's own)" },
  context: { type: "string", value: "<tokens>", help: "Of one sequence (as the cards say)" },
  concurrency: { type: "string", value: "<n>", help: "Sequences at once, of each model (8)" },
  quantisation: {
    type: "string",
    value: "<name>",
    help: "For both, or normal,thinking (the best that fits)",
  },
  overhead: { type: "string", value: "<MiB>", help: "As a startup log shows: docs/models.md" },
  rate: { type: "string", value: "<amount>", help: "For an hour of one GPU (a list's)" },
  currency: { type: "string", value: "<code>", help: "Of the rate and the prices" },
  kwh: { type: "string", value: "<amount>", help: "For a kWh, where the rate is without power" },
  utilisation: { type: "string", value: "<share>", help: "Of the paid hours it serves (0.5)" },
};

export const modelPlan: Command = {
  name: "model plan",
  summary: "Show whether a pair fits your GPUs, how fast it would be, and what it would cost",
  positionals: [{ name: "pair", isRequired: true }],
  options: {
    ...PLAN_OPTIONS,
    steps: { type: "boolean", help: "With the whole calculation" },
    json: JSON_OPTION,
  },
  notes: [
    "A pair is named by its whole name or a part that no other has: 14b. Nothing is started.",
    "Exit status 1 when it does not fit; the changes that would work are named.",
  ],
  async run({ positionals: [pair = ""], options, print, connect }) {
    const client = await connect();
    const plan = await client.post<PairPlan>(
      "models/plan",
      await planRequest(pair, options, client),
    );
    if (options.flag("json")) print.json(plan);
    else for (const line of planLines(plan, options.flag("steps"))) print.line(line);
    return plan.fits ? EXIT.done : EXIT.failed;
  },
};

/**
 * What `PLAN_OPTIONS` say; the GPUs are this machine's where they are not named.
 *
 * @throws Failure: usage, for what is not of its form and where no GPUs are known.
 */
export async function planRequest(
  pair: string,
  options: Values,
  client: Pick<Client, "get">,
): Promise<PlanRequest> {
  const whole = (name: string, min: number, max: number) => options.integer(name, { min, max });
  const context = whole("context", 1024, 10_000_000);
  const concurrency = whole("concurrency", 1, 4096);
  const overhead = whole("overhead", 0, 100_000);
  const rate = decimal("rate", options);
  const kwh = decimal("kwh", options);
  const utilisation = decimal("utilisation", options);
  const currency = options.text("currency");
  const quantisation = quantisationOf(options.text("quantisation"));
  return {
    pair,
    ...(await gpusOf(options.text("gpu"), client)),
    ...(context === undefined ? {} : { context_tokens: context }),
    ...(concurrency === undefined ? {} : { concurrency }),
    ...(overhead === undefined ? {} : { overhead_mib: overhead }),
    ...(quantisation === null ? {} : { quantisation }),
    ...(currency === undefined ? {} : { currency }),
    ...(rate === undefined ? {} : { rate_per_gpu_hour: rate }),
    ...(kwh === undefined ? {} : { price_per_kwh: kwh }),
    ...(utilisation === undefined ? {} : { utilisation }),
  };
}

async function gpusOf(
  text: string | undefined,
  client: Pick<Client, "get">,
): Promise<Pick<PlanRequest, "gpu" | "gpu_count">> {
  if (text === undefined) {
    const { gpus, own } = await client.get<HardwareList>("hardware");
    if (own !== undefined && own !== null) return own;
    const names = gpus.map(({ name }) => name).join(", ");
    throw usage(
      "--gpu is missing: the server knows of no GPU of its own (AUTOCODE_GPUS would say). " +
        `Give a number and a kind, as 2xh100; kinds: ${names}`,
    );
  }
  const [, count = "1", gpu] =
    /^(?:([1-9]\d?) *x *)?((?!\d+ *x)[a-z0-9][a-z0-9-]*)$/.exec(text) ?? [];
  if (gpu !== undefined && Number(count) <= 64) return { gpu, gpu_count: Number(count) };
  throw usage(`--gpu: "${text}" is not a number of GPUs, at most 64, and their kind: 2xh100`);
}

function quantisationOf(text: string | undefined): Quantisation | null {
  if (text === undefined) return null;
  const [normal = "", thinking = normal, ...more] = text.split(",").map((each) => each.trim());
  if (normal !== "" && thinking !== "" && more.length === 0) return { normal, thinking };
  throw usage(`--quantisation: "${text}" is not one name, or two with a comma: fp8,awq-int4`);
}

function decimal(name: string, options: Values): string | undefined {
  const text = options.text(name);
  if (text === undefined || /^\d{1,9}(\.\d{1,9})?$/.test(text)) return text;
  throw usage(`--${name}: "${text}" is not a decimal number: 0.50`);
}
