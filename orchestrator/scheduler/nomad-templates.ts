/**
 * The parameterised jobs in Nomad that trials are dispatched from: looked at before the first
 * dispatch and again after a while, registered where they are ours to register.
 *
 * Invariant: a job without our mark in its meta is the operator's and is never written.
 */
import type { Requirements } from "../contract/workers.ts";
import { Problem } from "../problem.ts";
import { monotonicMs } from "../runtime/clock.ts";
import type { NomadClient } from "./nomad-client.ts";
import { hasSaid } from "./nomad-errors.ts";
import { VARIANT_META, variantName, variantOf } from "./nomad-job.ts";
import type { Job } from "./nomad-wire.ts";

export interface NomadTemplatesOptions {
  /** The base job's name. */
  job: string;
  /** What is registered where there is no base job; null: an operator has to. */
  builtIn: Readonly<Record<string, unknown>> | null;
  /** How an operator registers the base job: a command. */
  installCommand: string;
  /** A job that was looked at is as it was for this long. */
  trustMs: number;
}

export interface NomadTemplates {
  /**
   * The job to dispatch for these requirements, registered if need be.
   *
   * @throws Problem `unavailable`: there is no base job, or Nomad does not answer; `forbidden`: the
   * token may not; `invalid_request`: Nomad rejects the variant, in its own words.
   */
  ensure(requirements: Requirements): Promise<Job>;
  /** Looked at anew at the next `ensure`. */
  forget(): void;
}

export function createNomadTemplates(
  client: Pick<NomadClient, "job" | "registerJob">,
  { job: baseName, builtIn, installCommand, trustMs }: NomadTemplatesOptions,
): NomadTemplates {
  const trusted = new Map<string, { atMs: number; job: Promise<Job> }>();
  return { ensure, forget: () => trusted.clear() };

  async function ensure(requirements: Requirements): Promise<Job> {
    const name = variantName(baseName, requirements);
    if (name === baseName) return once(name, ensureBase);
    return once(name, async () => {
      const base = await once(baseName, ensureBase);
      return ensureOurs(variantOf(base, requirements));
    });
  }

  /** Those who ask at once are answered by one look. */
  function once(name: string, look: () => Promise<Job>): Promise<Job> {
    const known = trusted.get(name);
    if (known !== undefined && monotonicMs() - known.atMs < trustMs) return known.job;
    const job = look();
    const entry = { atMs: monotonicMs(), job };
    trusted.set(name, entry);
    job.catch(() => {
      if (trusted.get(name) === entry) trusted.delete(name);
    });
    return job;
  }

  async function ensureBase(): Promise<Job> {
    const there = await client.job(baseName);
    const isOurs = there?.Meta?.[VARIANT_META] !== undefined;
    if (builtIn !== null && (there === null || isOurs)) return ensureOurs(builtIn, there);
    if (there === null) throw absent("is not registered");
    if (there.Stop === true) throw absent("is stopped");
    if (!there.ParameterizedJob) throw absent("is not parameterised");
    return there;
  }

  function absent(what: string): Problem {
    return new Problem(
      "unavailable",
      `Nomad's job ${baseName} ${what}, and trials are dispatched from it: ${installCommand}`,
    );
  }

  async function ensureOurs(
    wanted: Readonly<Record<string, unknown>>,
    known?: Job | null,
  ): Promise<Job> {
    const name = String(wanted["ID"]);
    const mark = (wanted["Meta"] as Record<string, string>)[VARIANT_META];
    const isIt = (job: Job) => job.Stop !== true && job.Meta?.[VARIANT_META] === mark;
    const there = known === undefined ? await client.job(name) : known;
    if (there !== null && isIt(there)) return there;
    try {
      await client.registerJob(wanted, there?.JobModifyIndex ?? 0);
    } catch (error) {
      if (error instanceof Problem && error.code === "forbidden") {
        const { said = "" } = error.facts;
        throw new Problem(
          "forbidden",
          `Nomad refused to register the job ${name}: ${said}; give NOMAD_TOKEN submit-job`,
          { facts: error.facts, cause: error },
        );
      }
      // Another orchestrator was first: what it registered is looked at below.
      if (!hasSaid(error, /Enforcing job modify index/)) throw error;
    }
    const registered = await client.job(name);
    if (registered !== null && isIt(registered)) return registered;
    throw new Problem(
      "unavailable",
      `Nomad's job ${name} is being changed by another; asked again`,
    );
  }
}
