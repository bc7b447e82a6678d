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
    env: Object.fromEntries(
      Object.entries(env).filter(
        (entry): entry is [string, string] =>
          // A provider's key is the gateway's alone.
          entry[1] !== undefined && ENGINE_VARIABLE.test(entry[0]) && !/_KEY$/.test(entry[0]),
      ),
    ),
  };
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
