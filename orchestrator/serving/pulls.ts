/**
 * Weights that engines wait for, pulled beside the rounds in which engines are looked after. What
 * is remembered may be lost: a pull begun again goes on where it was.
 */
import type { ModelCard } from "../../models/card.ts";
import { Problem } from "../problem.ts";
import type { Log } from "../runtime/log.ts";
import { PulledElsewhere, type Weights } from "../weights/weights.ts";

export interface Pulls {
  /**
   * The folder of an engine's weights; null: they are being pulled.
   *
   * @throws Problem of a pull that failed, once: the next call pulls again.
   */
  find(id: string, wanted: WantedWeights): Promise<string | null>;
  /**
   * Pulls the weights of an engine that is to start later, unless they are here, or as many others
   * are pulled as may be at once.
   *
   * @throws as `find`.
   */
  ahead(id: string, wanted: WantedWeights): Promise<void>;
  /** How far the pull for an engine is; null: there is none. */
  progress(id: string): string | null;
  /** Nobody waits for it any more. */
  drop(id: string): void;
}

export interface WantedWeights {
  card: ModelCard;
  quantisation: string;
  acceptedLicences: readonly string[];
}

interface Pull {
  detail: string;
  fault: Problem | null;
  /** Another process pulls the same: looked for again. */
  isElsewhere: boolean;
  ending: AbortController;
}

/** Whose turn it is pulls beside them. */
const AHEAD_MAX = 2;

/** @param closing ends all pulls. */
export function createPulls(
  weights: Pick<Weights, "find" | "pull">,
  log: Log,
  closing: AbortSignal,
): Pulls {
  const pulls = new Map<string, Pull>();
  /** Seen to be here, so that it is not looked for in each round. */
  const here = new Set<string>();
  const inLine = new Set<string>();
  return { find, ahead, progress, drop };

  async function ahead(id: string, wanted: WantedWeights): Promise<void> {
    if (here.has(id)) return;
    const isOwn = pulls.has(id);
    const running = [...pulls.values()].filter(({ fault, isElsewhere }) => {
      return fault === null && !isElsewhere;
    });
    if (isOwn || running.length < AHEAD_MAX) {
      if ((await find(id, wanted)) !== null) here.add(id);
      return;
    }
    // What is here already need not wait until others are.
    const found = await weights.find(wanted.card.name, wanted.quantisation);
    (found === null ? inLine : here).add(id);
    if (found !== null) inLine.delete(id);
  }

  async function find(id: string, wanted: WantedWeights): Promise<string | null> {
    // Its turn came: it waits for nobody's weights but its own.
    inLine.delete(id);
    const pull = pulls.get(id);
    if (pull !== undefined && pull.fault === null && !pull.isElsewhere) return null;
    if (pull?.fault) {
      pulls.delete(id);
      throw pull.fault;
    }
    const found = await weights.find(wanted.card.name, wanted.quantisation);
    if (found === null) {
      begin(id, wanted, pull?.detail ?? "pulls its weights");
      return null;
    }
    pulls.delete(id);
    return found.dir;
  }

  function begin(
    id: string,
    { card, quantisation, acceptedLicences }: WantedWeights,
    detail: string,
  ): void {
    const ending = new AbortController();
    const begun: Pull = { detail, fault: null, isElsewhere: false, ending };
    pulls.set(id, begun);
    const signal = AbortSignal.any([closing, ending.signal]);
    const onProgress: Parameters<Weights["pull"]>[2]["onProgress"] = ({ bytes, bytes_total }) => {
      const part = bytes_total > 0 ? ` ${Math.floor((bytes / bytes_total) * 100)} %` : "";
      begun.detail = `pulls its weights${part}`;
    };
    weights.pull(card, quantisation, { acceptedLicences, signal, onProgress }).then(
      () => void (pulls.get(id) === begun && pulls.delete(id)),
      (error: unknown) => {
        if (signal.aborted) return;
        if (error instanceof PulledElsewhere) {
          begun.isElsewhere = true;
          begun.detail = error.message;
          return;
        }
        log.warn({ err: error, engine: id }, "weights not pulled");
        const unknown = "its weights were not pulled; the log says why";
        begun.fault =
          error instanceof Problem ? error : new Problem("conflict", unknown, { cause: error });
      },
    );
  }

  function progress(id: string): string | null {
    return pulls.get(id)?.detail ?? (inLine.has(id) ? IN_LINE : null);
  }

  function drop(id: string): void {
    pulls.get(id)?.ending.abort(new Error("nobody waits for these weights any more"));
    pulls.delete(id);
    here.delete(id);
    inLine.delete(id);
  }
}

const IN_LINE = "waits for its weights until others are pulled";
