/** What the environment says of models on own GPUs, read with `config.ts`'s readers. Pure. */
import type { Reader } from "./config-engines.ts";

export interface ServingConfig {
  /** What the GPUs are; null: what nvidia-smi says. */
  gpus: { name: string; count: number } | null;
  /** Kinds of GPU of the installation's own, in the form of models/hardware.yaml. */
  hardwareFile: string | null;
  /** Where engines of ours listen: an address that gateways alone reach. */
  host: string;
  /** The Python that has vLLM. */
  python: string;
  /** A hub of the Hugging Face kind; null: its own. */
  weightsUrl: string | null;
  /** What it is asked with, where the secret provider/huggingface/key is not to be. */
  weightsToken: string | null;
  /** Nothing is fetched: what is not here is refused. */
  isOffline: boolean;
  /** What an engine gets of our environment beside what a worker does. */
  env: Readonly<Record<string, string>>;
  /** The cluster that runs engines; null: they are processes of this machine. */
  ray: RayConfig | null;
  /** What chose their launcher, for people. */
  why: string;
}

export interface RayConfig {
  /** Its dashboard, without a slash at its end. */
  url: string;
  /** Where RAY_AUTH_MODE is token. */
  token: string | null;
  /** Where gateways reach Serve; null: at the dashboard's host, at the port that Serve has. */
  ingressUrl: string | null;
  /** The weight store and models/serving, as its nodes see them; null: where ours are. */
  weightsDir: string | null;
  pluginsDir: string | null;
}

/** Its tools' and its driver's own settings. */
const ENGINE_VARIABLE =
  /^((CUDA|NVIDIA|NCCL|VLLM|OMP|HIP|ROCR)_[A-Z0-9_]+|LD_LIBRARY_PATH|LD_PRELOAD|XDG_CACHE_HOME)$/;

export function readServing(
  read: Reader,
  env: Readonly<Record<string, string | undefined>>,
): ServingConfig {
  return {
    gpus: readGpus(read),
    hardwareFile: read.text("AUTOCODE_HARDWARE") ?? null,
    host: read.text("AUTOCODE_ENGINES_HOST") ?? "127.0.0.1",
    python: read.text("AUTOCODE_VLLM_PYTHON") ?? "python3",
    weightsUrl: read.address("AUTOCODE_WEIGHTS_URL", /^https?:\/\//),
    weightsToken: read.text("HF_TOKEN") ?? null,
    isOffline: read.oneOf("AUTOCODE_OFFLINE", ["on", "off"], "off") === "on",
    ...readLauncher(read),
    env: Object.fromEntries(
      Object.entries(env).filter(
        (entry): entry is [string, string] =>
          // A provider's key is the gateway's alone.
          entry[1] !== undefined && ENGINE_VARIABLE.test(entry[0]) && !/_KEY$/.test(entry[0]),
      ),
    ),
  };
}

/** `AUTOCODE_SERVING` decides; where it is not set, the address of a Ray does. */
function readLauncher(read: Reader): Pick<ServingConfig, "ray" | "why"> {
  const { text } = read;
  const isSaid = text("AUTOCODE_SERVING") !== undefined;
  const hasRay = text("AUTOCODE_RAY_URL") !== undefined;
  const implied = hasRay ? "ray" : "processes";
  const name = read.oneOf("AUTOCODE_SERVING", ["processes", "ray"], implied);
  const known = hasRay ? "AUTOCODE_RAY_URL is set" : "AUTOCODE_RAY_URL is not set";
  const why = isSaid ? `AUTOCODE_SERVING is ${name}` : known;
  if (name === "processes") return { ray: null, why };
  if (!hasRay) {
    const example = "such as http://127.0.0.1:8265";
    read.fault(
      `AUTOCODE_RAY_URL: AUTOCODE_SERVING is ray, so set it to Ray's dashboard, ${example}`,
    );
  }
  const ray = {
    url: originOf(read, "AUTOCODE_RAY_URL") ?? "",
    token: text("RAY_AUTH_TOKEN") ?? null,
    ingressUrl: originOf(read, "AUTOCODE_RAY_INGRESS_URL"),
    weightsDir: folderOf(read, "AUTOCODE_RAY_WEIGHTS"),
    pluginsDir: folderOf(read, "AUTOCODE_RAY_PLUGINS"),
  };
  return { ray, why };
}

function originOf(read: Reader, name: string): string | null {
  return read.address(name, /^https?:\/\//)?.replace(/\/+$/, "") ?? null;
}

function folderOf({ text, fault }: Reader, name: string): string | null {
  const folder = text(name)?.replace(/(?<=.)\/+$/, "") ?? null;
  if (folder !== null && !folder.startsWith("/")) {
    fault(`${name}: "${folder}" must be a folder's path from /, as Ray's nodes see it`);
  }
  return folder;
}

/** "2x rtx-4090", "h100" */
export function parseGpus(text: string): { name: string; count: number } | null {
  const [, count = "1", name] =
    /^(?:([1-9][0-9]?)\s*x\s*)?([a-z0-9][a-z0-9-]{0,62})$/.exec(text.trim().toLowerCase()) ?? [];
  return name === undefined || Number(count) > 64 ? null : { name, count: Number(count) };
}

function readGpus({ text, fault }: Reader): ServingConfig["gpus"] {
  const written = text("AUTOCODE_GPUS");
  if (written === undefined) return null;
  const gpus = parseGpus(written);
  if (gpus === null) {
    fault(`AUTOCODE_GPUS: "${written}" must be GPUs of one kind, such as "2x rtx-4090"`);
  }
  return gpus;
}
