/**
 * The command line that starts a program in a namespace: network, mounts and processes of its own,
 * then another user, without capabilities and without a way to new ones.
 */
import { existsSync } from "node:fs";
import type { Command } from "./isolate.ts";
import { isWithin, type Seclusion } from "./seclusion.ts";

export interface Entrance {
  readonly programs: Readonly<
    Record<"setpriv" | "nsenter" | "unshare" | "mount" | "mkdir" | "env" | "sh", string>
  >;
  /** The network namespace: a file of it. */
  readonly network: string;
  /** What the program finds as /etc/resolv.conf. */
  readonly resolver: { readonly file: string; readonly at: string | null };
}

/** A folder on which nothing of ours lies: new trees are put together there. */
const STAGE = "/mnt";
/**
 * Variables by which a linker, a C library or a shell is led: they must not be in force before the
 * program's own user is, so they are set behind it.
 */
const LEADS_PROGRAMS =
  /^(LD_.*|GLIBC_TUNABLES|GCONV_PATH|GETCONF_DIR|HOSTALIASES|LOCALDOMAIN|LOCPATH|MALLOC_.*|NIS_PATH|NLSPATH|RESOLV_HOST_CONF|RES_OPTIONS|BASH_ENV|ENV|IFS|PS4|SHELLOPTS)$/;

/** The command as it is started from our own namespaces, by root. */
export function enter(
  { programs, network, resolver }: Entrance,
  seclusion: Seclusion,
  { tmp }: { tmp: string },
  command: Command,
): Command {
  const { runAs, env } = command;
  const leading = Object.entries(env).filter(([name]) => LEADS_PROGRAMS.test(name));
  const user = runAs === null ? [] : [`--reuid=${runAs.uid}`, `--regid=${runAs.gid}`];
  const isRoot = runAs === null;
  const script = mountScript(programs, { seclusion, resolver, tmp, isRoot, cwd: command.cwd });
  return {
    file: programs.setpriv,
    args: [
      // The worker-agent's end is everybody's.
      ...["--pdeathsig", "KILL", programs.nsenter, `--net=${network}`],
      ...[programs.unshare, "--mount", "--pid", "--ipc", "--fork", "--kill-child"],
      // It stays, as the first process: it reaps what the others leave, and all end with it.
      ...[programs.sh, "-c", `${script}"$@"; exit $?`, "sh"],
      ...[programs.setpriv, ...user, "--clear-groups", "--no-new-privs"],
      ...["--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all"],
      ...(leading.length === 0
        ? []
        : [programs.env, ...leading.map(([name, value]) => `${name}=${value}`)]),
      ...[command.file, ...command.args],
    ],
    env: Object.fromEntries(Object.entries(env).filter(([name]) => !LEADS_PROGRAMS.test(name))),
    cwd: "/",
    runAs: null,
  };
}

/** Each hidden folder's new content is put together first, then moved over it. */
function mountScript(
  programs: Entrance["programs"],
  given: {
    seclusion: Seclusion;
    resolver: Entrance["resolver"];
    tmp: string;
    /** Its files' rights deny nothing to whom they all belong: it may write to its own alone. */
    isRoot: boolean;
    cwd: string;
  },
): string {
  const { hidden, asTmp, kept } = given.seclusion;
  const mount = `${programs.mount} --no-mtab`;
  const { file, at } = given.resolver;
  const lines = ["set -e", "umask 022"];
  for (const folder of hidden) {
    if (asTmp.includes(folder)) lines.push(`${mount} --bind ${quoted(given.tmp)} ${STAGE}`);
    else lines.push(`${mount} -t tmpfs -o mode=0755,size=1m,nosuid,nodev tmpfs ${STAGE}`);
    for (const { path, source, isWritable } of kept.filter(within(folder))) {
      const there = quoted(`${STAGE}${path.slice(folder.length)}`);
      lines.push(`${programs.mkdir} -p ${there}`, `${mount} --rbind ${quoted(source)} ${there}`);
      if (given.isRoot && !isWritable) lines.push(`${mount} -o remount,ro,bind ${there}`);
    }
    if (at !== null && isWithin(folder, at)) {
      const there = `${STAGE}${at.slice(folder.length)}`;
      lines.push(`${programs.mkdir} -p ${quoted(there.slice(0, there.lastIndexOf("/")))}`);
      lines.push(
        `while IFS= read -r line; do echo "$line"; done < ${quoted(file)} > ${quoted(there)}`,
      );
    }
    lines.push(`${mount} --move ${STAGE} ${quoted(folder)}`);
  }
  if (at !== null && !hidden.some((folder) => isWithin(folder, at))) {
    lines.push(`${mount} --bind ${quoted(file)} ${quoted(at)}`);
  }
  lines.push(
    `${mount} -t tmpfs -o mode=1777,size=512m,nosuid,nodev tmpfs /dev/shm`,
    `${mount} -t proc -o nosuid,nodev,noexec proc /proc`,
    ...(given.isRoot ? readOnly(mount, given.seclusion.own) : []),
    `cd ${quoted(given.cwd)}`,
    "set +e\n",
  );
  return lines.join("\n");
}

function within(folder: string): (kept: { path: string }) => boolean {
  return ({ path }) => isWithin(folder, path);
}

/** The host's own files and settings. */
function readOnly(mount: string, own: readonly string[]): string[] {
  const settings = ["/proc/sys", "/proc/sysrq-trigger"].filter((path) => existsSync(path));
  return [
    ...own.map((room) => `${mount} --bind ${quoted(room)} ${quoted(room)}`),
    ...settings.map((at) => `${mount} --bind ${at} ${at}`),
    ...["/", ...settings].map((at) => `${mount} -o remount,ro,bind ${at}`),
  ];
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
