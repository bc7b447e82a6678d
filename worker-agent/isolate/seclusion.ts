/**
 * What of the host's files a closed allocation sees: everything but the folders of services, of
 * people and of other allocations. Pure but for looking whether a path is there.
 */
import { existsSync, realpathSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { basename, dirname, join } from "node:path";
import type { RunAs } from "../config.ts";
import type { IsolationRequest } from "./isolate.ts";

/** Sockets of services, and what they keep: Docker, containerd, Nomad, Vault, D-Bus, libvirt. */
const SERVICES = [
  "/run",
  "/etc/nomad.d",
  "/etc/vault.d",
  "/opt/nomad",
  "/opt/vault",
  "/var/lib/docker",
  "/var/lib/nomad",
  "/var/lib/cloud",
];
/** What no program works without, whatever lies there too. */
const NEVER_HIDDEN = new Set(
  ["", "bin", "dev", "etc", "lib", "lib64", "mnt", "opt", "proc", "sbin", "sys", "usr", "var"].map(
    (name) => `/${name}`,
  ),
);
/** In their place is the allocation's own `tmp`, which its limits count. */
const SHARED_TMP = ["/tmp", "/var/tmp"];

export interface Seclusion {
  /** Folders of which `kept` alone is seen; none is within another. */
  readonly hidden: readonly string[];
  /** Those of `hidden` that are the allocation's own `tmp` instead of empty. */
  readonly asTmp: readonly string[];
  /** The allocation's own folders. */
  readonly own: readonly string[];
  /** Within one of `hidden`; none is within another. */
  readonly kept: readonly {
    readonly path: string;
    /** What is seen there; another path where `path` is a link. */
    readonly source: string;
    readonly isWritable: boolean;
  }[];
}

/** Looks at the folders as they are now: rooms are made while an allocation works. */
export function seclude(
  { rooms, hidden, kept, runAs }: Pick<IsolationRequest, "rooms" | "hidden" | "kept" | "runAs">,
  path: string,
): Seclusion {
  const asTmp = outermost(SHARED_TMP.flatMap(real));
  const others = [...hidden, homedir(), ...SERVICES].flatMap(real);
  const all = outermost([...asTmp, ...others.filter((one) => !NEVER_HIDDEN.has(one))]);
  const own = [rooms.workspace, rooms.home, rooms.tmp, rooms.tests, rooms.logs].flatMap(real);
  const programs = path.split(":").flatMap(ofProgram(all));
  const shown = [rooms.side, ...kept, ...programs]
    .flatMap(real)
    .filter((one) => runAs === null || canReach(runAs, one));
  const inHidden = (one: string) => all.some((root) => isWithin(root, one) && root !== one);
  const roots = outermost([...own, ...shown]).filter(inHidden);
  return {
    hidden: all,
    asTmp: asTmp.filter((one) => all.includes(one)),
    own,
    kept: [
      ...roots.map((one) => ({ path: one, source: one, isWritable: own.includes(one) })),
      ...kept.flatMap(linked).filter(({ path: at }) => inHidden(at) && !roots.some(within(at))),
    ],
  };
}

/** The place of a folder that is a link: programs are called by it. */
function linked(path: string): Seclusion["kept"][number][] {
  const [source] = real(path);
  const [folder] = real(dirname(path));
  if (source === undefined || folder === undefined) return [];
  const at = join(folder, basename(path));
  return at === source ? [] : [{ path: at, source, isWritable: false }];
}

function within(path: string): (folder: string) => boolean {
  return (folder) => isWithin(folder, path);
}

/** A folder of programs with what lies beside it, unless that is more than theirs. */
function ofProgram(hidden: readonly string[]): (folder: string) => string[] {
  return (folder) => {
    const [found] = real(folder);
    if (found === undefined) return [];
    const beside = dirname(found);
    const isTheirs = ["bin", "shims"].includes(basename(found)) && basename(beside) !== ".local";
    const isTooMuch = hidden.some((root) => isWithin(beside, root));
    return isTheirs && !isTooMuch ? [beside] : [found];
  };
}

/** Its real path, where there is one. */
function real(path: string): string[] {
  if (path === "" || !existsSync(path)) return [];
  return [realpathSync(path)];
}

/** Whether the user can pass to it: what is closed to it anyway is not shown. */
function canReach({ uid, gid }: RunAs, path: string): boolean {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) return false;
  const [mine, groups] = [found.uid === uid, found.gid === gid];
  const bit = mine ? 0o100 : groups ? 0o010 : 0o001;
  if ((found.mode & bit) === 0) return false;
  return path === "/" || canReach({ uid, gid }, dirname(path));
}

/** Those that are in none of the others, each once. */
function outermost(paths: readonly string[]): string[] {
  const each = [...new Set(paths)];
  return each.filter((path) => !each.some((other) => other !== path && isWithin(other, path)));
}

/** Whether `path` is `folder` or below it. */
export function isWithin(folder: string, path: string): boolean {
  return path === folder || path.startsWith(join(folder, "/"));
}

/** Null where nothing is there. */
export function realpathOrNull(path: string): string | null {
  return real(path)[0] ?? null;
}
