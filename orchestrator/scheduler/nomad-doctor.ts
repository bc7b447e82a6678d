/** What `autocode doctor` says of Nomad: where it is, what our token may, and what is missing. */
import type { Finding } from "../contract/system.ts";
import { Problem } from "../problem.ts";
import type { NomadClient } from "./nomad-client.ts";
import { VARIANT_META } from "./nomad-job.ts";
import type { AclToken, NodeStub } from "./nomad-wire.ts";

export interface NomadDoctorOptions {
  address: string;
  namespace: string;
  region: string | null;
  job: string;
  /** Which setting chose Nomad. */
  why: string;
  installCommand: string;
  /** Whether a missing base job is registered by us at the first trial. */
  registersItself: boolean;
  /** The event stream's. */
  trouble(): string | null;
}

type Said = Omit<Finding, "part">;

/** The first that has `disconnect { replace = false }`, without which a lost trial runs twice. */
const VERSION_MIN = [1, 8] as const;

export async function describeNomad(
  client: Pick<NomadClient, "tokenSelf" | "version" | "nodes" | "job" | "jobs">,
  options: NomadDoctorOptions,
): Promise<Said> {
  const { address, namespace, region, job, why } = options;
  const inRegion = region === null ? "" : `, region ${region}`;
  const where = `nomad at ${address}, namespace ${namespace}${inRegion}; ${why}`;
  try {
    const token = await client.tokenSelf();
    const nodes = await client.nodes();
    const version = (await client.version()) ?? nodes[0]?.Version ?? null;
    await client.jobs({ prefix: job, filter: `ID == "${job}"` });
    const facts = [where, tell(version), tellToken(token), tellNodes(nodes)].join("; ");
    return (await whatIsMissing()) ?? { status: "ok", detail: facts, next_step: null };

    async function whatIsMissing(): Promise<Said | null> {
      if (version !== null && isOld(version)) {
        return warn(`${facts}: trials need Nomad ${VERSION_MIN.join(".")}`, "upgrade Nomad");
      }
      const base = await client.job(job);
      const isUsable = base !== null && base.Stop !== true;
      const isOurs = base?.Meta?.[VARIANT_META] !== undefined;
      if (!isUsable && !(options.registersItself && (base === null || isOurs))) {
        const what = base === null ? "is not registered" : "is stopped";
        const detail = `${facts}; the job ${job} ${what}`;
        return { status: "missing", detail, next_step: options.installCommand };
      }
      const ready = nodes.filter(({ Status }) => Status === "ready");
      if (ready.length === 0) return warn(facts, "start a Nomad client: no node is ready");
      const trouble = options.trouble();
      return trouble === null ? null : warn(`${facts}; events: ${trouble}`, null);
    }
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return { status: "missing", detail: `${where}: ${error.message}`, next_step: remedy(error) };
  }
}

function remedy({ code }: Problem): string {
  return code === "forbidden"
    ? "set NOMAD_TOKEN to a token with the policy in nomad-jobs/policies/nomad"
    : "start Nomad, or set NOMAD_ADDR to an agent (and NOMAD_CACERT where it has TLS)";
}

function tell(version: string | null): string {
  return version === null ? "version unknown (the token has no agent:read)" : `version ${version}`;
}

function tellToken(token: AclToken | null): string {
  if (token === null) return "access control is off";
  const policies = (token.Policies ?? []).join(", ");
  const name = token.Name ? `"${token.Name}"` : token.AccessorID;
  return `token ${name} (${token.Type}${policies === "" ? "" : `: ${policies}`})`;
}

function tellNodes(nodes: readonly NodeStub[]): string {
  const ready = nodes.filter(({ Status }) => Status === "ready").length;
  return `${ready} of ${nodes.length} nodes ready`;
}

function isOld(version: string): boolean {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const [wantedMajor, wantedMinor] = VERSION_MIN;
  return major < wantedMajor || (major === wantedMajor && minor < wantedMinor);
}

function warn(detail: string, next_step: string | null): Said {
  return { status: "warn", detail, next_step };
}
