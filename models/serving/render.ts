/**
 * A planned pair as files and commands that a person can run by hand: shell scripts of vLLM, a Ray
 * Serve file, variables for our Nomad job, or what to add to docker-compose.gpu.yml. Pure: what is
 * on the disk (weights, plugins) is given.
 */
import { Document } from "yaml";
import type { RenderedPair, RenderForm } from "../../orchestrator/contract/model-render.ts";
import type { ModelPlan, PairPlan } from "../../orchestrator/contract/models.ts";
import type { ModelCard } from "../card.ts";
import { CatalogError } from "../yaml-file.ts";
import { rayConfig, rayRefusal } from "./ray-config.ts";
import { vllmCommand, vllmEnvironment } from "./vllm-command.ts";

export interface RenderFacts {
  readonly cards: ReadonlyMap<string, ModelCard>;
  /** Where each model's weights are, of those that were pulled, by the model's name. */
  readonly weightsDirs: ReadonlyMap<string, string>;
  /** The store that those folders are in, which a container sees as /weights. */
  readonly weightsRoot: string;
  /** The parser plugins with what they import, and the chat templates: name to text. */
  readonly plugins: ReadonlyMap<string, string>;
  /** The Python that has vLLM. */
  readonly python: string;
}

type Rendering = Pick<RenderedPair, "files" | "commands" | "notes">;

const LOOPBACK = "127.0.0.1";
/** In a container, whose networks say who reaches it. */
const EVERYWHERE = "0.0.0.0";
const FIRST_PORT = 8101;
const CONTAINER_PORT = 8000;
const CONTAINER_WEIGHTS = "/weights";
const CONTAINER_PLUGINS = "/opt/autocode/models/serving";
/** Where a Nomad task finds the files that its job brought; the node puts the folder in. */
// biome-ignore lint/suspicious/noTemplateCurlyInString: Nomad's own, not ours
const NOMAD_PLUGINS = "${NOMAD_TASK_DIR}/serving";
const RAY_URL = `http://ray:${CONTAINER_PORT}/v1`;
/** The services that read where model servers are. */
const CALLERS = ["orchestrator", "gateway", "egress"] as const;
const RAY_LACKS =
  "It has no /v1/messages and no /v1/responses: agents that speak those need vLLM itself.";
const MIB = 1024 ** 2;

const KEYLESS =
  "An engine asks nobody for a key: keep its address to the gateway alone. A project's file names " +
  "it: models.<pair>.<side>.base_url, ending in /v1.";

/** @throws CatalogError for a plan that does not fit, or that this form cannot serve. */
export function renderPair(plan: PairPlan, form: RenderForm, facts: RenderFacts): RenderedPair {
  if (!plan.fits) {
    const advice = plan.advice.length === 0 ? "" : `. Instead: ${plan.advice.join("; or ")}`;
    throw new CatalogError(`${plan.refusal ?? `${plan.pair} does not fit`}${advice}`);
  }
  const rendered = RENDERINGS[form](plan, facts);
  const notes = [...rendered.notes, ...missingWeights(plan, facts), KEYLESS];
  return { pair: plan.pair, as: form, ...rendered, notes };
}

const RENDERINGS: Readonly<Record<RenderForm, (plan: PairPlan, facts: RenderFacts) => Rendering>> =
  { vllm, ray, nomad, compose };

function vllm(plan: PairPlan, facts: RenderFacts): Rendering {
  const isSleepable = plan.residency === "alternate";
  const files = plan.models.map((model, index) => {
    const { argv, env } = vllmCommand({
      ...{ card: cardOf(model, facts), plan: model, isSleepable, python: facts.python },
      weightsDir: facts.weightsDirs.get(model.model) ?? null,
      ...{ host: LOOPBACK, port: FIRST_PORT + index },
    });
    const settings = Object.entries(env).map(([name, value]) => `export ${name}=${quote(value)}`);
    const command = lines(argv)
      .map((line) => line.map(quote).join(" "))
      .join(" \\\n  ");
    const text = `#!/bin/sh\n# ${model.model}, planned for ${plan.gpu_count} x ${plan.gpu}.\n`;
    return {
      name: `${plan.pair}-${model.side}.sh`,
      text: `${text}${settings.join("\n")}\nexec ${command}\n`,
    };
  });
  const [first, second] = files.map(({ name }) => name);
  const urls = plan.models.map((_, index) => `http://${LOOPBACK}:${FIRST_PORT + index}`);
  const ready = (index: number) => `until curl -sf ${urls[index]}/health; do sleep 5; done`;
  const sleep = isSleepable ? [`curl -fsX POST '${urls[0]}/sleep?level=1'`] : [];
  return {
    files,
    commands: [`sh ${first} &`, ready(0), ...sleep, `sh ${second} &`, ready(1)],
    notes: [
      ...(plan.residency === "together"
        ? [
            "Both share their GPUs: each measures what is free as it starts, so one after the other.",
          ]
        : []),
      ...(isSleepable
        ? [
            `They alternate: POST /sleep?level=1 at one and then POST /wake_up at the other. Those ` +
              "routes come with others that run anything in the engine.",
          ]
        : []),
    ],
  };
}

function ray(plan: PairPlan, facts: RenderFacts): Rendering {
  const { weightsDirs, cards } = facts;
  const where = { host: LOOPBACK, port: CONTAINER_PORT, replicasMax: 1 };
  const name = `${plan.pair}.ray.yaml`;
  return {
    files: [{ name, text: rayConfig(plan, cards, { weightsDirs, ...where }) }],
    commands: [
      "RAY_AUTH_MODE=token ray start --head --disable-usage-stats --metrics-export-port 8080",
      `serve deploy ${name}`,
      "serve status",
    ],
    notes: [
      "Ray listens on every address of the machine, and whoever reaches it runs code there: a " +
        "firewall, or a network of its own, comes first.",
      `Its ingress at http://${LOOPBACK}:${CONTAINER_PORT}/v1 has chat and completions. ` +
        RAY_LACKS,
    ],
  };
}

/** Variables for nomad-jobs/models.nomad.hcl: a job for each model, with its plugin in it. */
function nomad(plan: PairPlan, facts: RenderFacts): Rendering {
  refuseAlternating(plan);
  if (plan.residency === "together") {
    throw new CatalogError(
      `${plan.pair} shares its GPUs, and Nomad gives whole ones: plan GPUs for each model of its ` +
        "own, or render it as vllm or compose",
    );
  }
  const files = plan.models.map((model, index) => {
    const card = cardOf(model, facts);
    const { argv } = vllmCommand({
      ...{ card, plan: model, host: LOOPBACK, port: 0, python: "python3" },
      weightsDir: containerWeights(model, facts),
      pluginsDir: NOMAD_PLUGINS,
    });
    const hasPlugin = card.toolParser !== null && card.toolParser.plugin !== null;
    const plugins = [...facts.plugins].filter(([name]) => {
      return name.endsWith(".py") ? hasPlugin : name === card.chatTemplate;
    });
    const variables: Record<string, unknown> = {
      job_id: `autocode-${plan.pair}-${model.side}`.replaceAll(".", "-"),
      model: argv[argv.indexOf("--model") + 1],
      gpus: model.gpus.length,
      gpu_memory_mib: Math.floor(plan.gpu_memory_bytes / MIB),
      port: FIRST_PORT + index,
      extra_args: engineArguments(argv),
      plugins: Object.fromEntries(plugins),
      env: vllmEnvironment({
        ...{ plan: model, isContained: true },
        weightsDir: containerWeights(model, facts),
      }),
    };
    return { name: `${plan.pair}-${model.side}.nomadvars.hcl`, text: hcl(variables) };
  });
  const run = (name: string) => `nomad job run -var-file=${name} nomad-jobs/models.nomad.hcl`;
  return {
    files,
    commands: files.map(({ name }) => run(name)),
    notes: ["Add -var weights_volume=<host volume> for nodes whose weights are in a host volume."],
  };
}

/**
 * What to add to docker-compose.gpu.yml, whose two engines are of another pair; and what its Ray
 * serves in their place, where Ray can place them.
 */
function compose(plan: PairPlan, facts: RenderFacts): Rendering {
  refuseAlternating(plan);
  const file = "docker-compose.gpu.yml";
  const override = { name: `${plan.pair}.compose.yaml`, text: composeOverride(plan, facts) };
  const refusal = rayRefusal(plan);
  const name = `${plan.pair}.ray.yaml`;
  const ray = refusal === null ? [{ name, text: containedRay(plan, facts) }] : [];
  return {
    files: [override, ...ray],
    commands: [`docker compose -f ${file} -f ${override.name} --profile vllm up -d`],
    notes: [
      ...(plan.residency === "together"
        ? ["Both share their GPUs: start vllm-normal first, and vllm-thinking when it is healthy."]
        : []),
      refusal === null
        ? `Or in place of these, by Ray: RAY_CONFIG=./${name} VLLM_BASE_URL=${RAY_URL} docker ` +
          `compose -f ${file} --profile ray up -d. ${RAY_LACKS}`
        : `Not by Ray: ${refusal}.`,
    ],
  };
}

/** For the service ray: its mounts, and every address, since its network is the engines' own. */
function containedRay(plan: PairPlan, facts: RenderFacts): string {
  const mounted = plan.models.flatMap((model) => {
    const dir = containerWeights(model, facts);
    return dir === null ? [] : [[model.model, dir] as const];
  });
  return rayConfig(plan, facts.cards, {
    ...{ weightsDirs: new Map(mounted), pluginsDir: CONTAINER_PLUGINS },
    ...{ host: EVERYWHERE, port: CONTAINER_PORT, replicasMax: 1 },
  });
}

function composeOverride(plan: PairPlan, facts: RenderFacts): string {
  const services = plan.models.map((model) => {
    const { argv } = vllmCommand({
      ...{ card: cardOf(model, facts), plan: model, python: "python3" },
      ...{ host: EVERYWHERE, port: CONTAINER_PORT },
      weightsDir: containerWeights(model, facts),
      pluginsDir: CONTAINER_PLUGINS,
    });
    const device = { driver: "nvidia", device_ids: model.gpus.map(String), capabilities: ["gpu"] };
    const reservations = { devices: [device] };
    return [
      `vllm-${model.side}`,
      { command: argv.slice(3), deploy: { resources: { reservations } } },
    ] as const;
  });
  const addresses = plan.models.map(({ side }) => [
    `VLLM_${side.toUpperCase()}_BASE_URL`,
    `http://vllm-${side}:${CONTAINER_PORT}/v1`,
  ]);
  const told = { environment: Object.fromEntries(addresses) };
  const callers = CALLERS.map((name) => [name, told] as const);
  const all = Object.fromEntries([...callers, ...services]);
  const document = new Document({ services: all }, { aliasDuplicateObjects: false });
  // Lists of two files are joined: these GPUs are in place of the others, not beside them.
  for (const [service] of services) {
    const path = ["services", service, "deploy", "resources", "reservations", "devices"];
    const devices = document.getIn(path, true) as { tag?: string };
    devices.tag = "!override";
  }
  document.commentBefore = ` ${plan.pair} on ${plan.gpu_count} x ${plan.gpu}`;
  return document.toString({ lineWidth: 100 });
}

/** Nobody there would send the one to sleep before the other wakes. */
function refuseAlternating({ residency, pair }: PairPlan): void {
  if (residency !== "alternate") return;
  throw new CatalogError(
    `${pair} fits only one model at a time: autocode model up ${pair} has them take turns; by ` +
      "hand, render it as vllm",
  );
}

/** All but the interpreter, the model and where it listens, which the job says. */
function engineArguments(argv: readonly string[]): string[] {
  const own = new Set(["--model", "--host", "--port"]);
  return lines(argv)
    .slice(1)
    .filter(([flag]) => flag !== undefined && !own.has(flag))
    .flat();
}

/** The program, then each flag with its values. */
function lines(argv: readonly string[]): string[][] {
  const grouped: string[][] = [[]];
  for (const word of argv) {
    if (word.startsWith("--")) grouped.push([word]);
    else grouped.at(-1)?.push(word);
  }
  return grouped;
}

function cardOf({ model }: ModelPlan, { cards }: RenderFacts): ModelCard {
  const card = cards.get(model);
  if (card === undefined) throw new CatalogError(`no model card is called ${model}`);
  return card;
}

/** Null where they are not in the store, and so not under what is mounted. */
function containerWeights({ model }: ModelPlan, facts: RenderFacts): string | null {
  const dir = facts.weightsDirs.get(model);
  if (dir === undefined || !dir.startsWith(`${facts.weightsRoot}/`)) return null;
  return `${CONTAINER_WEIGHTS}${dir.slice(facts.weightsRoot.length)}`;
}

function missingWeights({ models, pair }: PairPlan, { weightsDirs }: RenderFacts): string[] {
  const missing = models.map(({ model }) => model).filter((model) => !weightsDirs.has(model));
  if (missing.length === 0) return [];
  return [
    `The weights of ${missing.join(" and ")} are not here, so the engine fetches them from the ` +
      `hub itself, which it cannot on a network without a way out: autocode model pull ${pair} first.`,
  ];
}

/** For a POSIX shell. */
function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** JSON's values are HCL's, but for templates, which a text of ours must not begin. */
function hcl(variables: Record<string, unknown>): string {
  const written = Object.entries(variables).map(([name, value]) => {
    const text = JSON.stringify(value, null, 2);
    return `${name} = ${text.replaceAll("${", "$$$${").replaceAll("%{", "%%{")}`;
  });
  return `${written.join("\n")}\n`;
}
