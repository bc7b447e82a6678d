/**
 * The command line that starts a program in a namespace: network, mounts and processes of its own,
 * then another user, without capabilities and without a way to new ones.
 */
import { existsSync } from "node:fs";
import type { Command } from "./isolate.ts";
import { isWithin, realpathOrNull, type Seclusion } from "./seclusion.ts";

export interface Entrance {
  readonly programs: Readonly<
    Record<"setpriv" | "nsenter" | "unshare" | "mount" | "mkdir" | "ln" | "env" | "sh", string>
  >;
  /** The network namespace: a file of it. */
  readonly network: string;
  /** What the program finds as /etc/resolv.conf. */
  readonly resolver: { readonly file: string; readonly at: string | null };
}

/** A folder on which nothing of ours lies: new trees are put together there. */
const STAGE = "/mnt";
/** What programs open; never a disk, a kernel's door or a terminal of the host's. */
const DEVICES = ["null", "zero", "full", "random", "urandom", "tty"];
const DEVICE_LINKS = {
  fd: "/proc/self/fd",
  stdin: "/proc/self/fd/0",
  stdout: "/proc/self/fd/1",
  stderr: "/proc/self/fd/2",
  ptmx: "pts/ptmx",
};
/** Of /proc, what whoever is called root may change without a capability. */
const SETTINGS = ["sys", "sysrq-trigger", "bus", "fs", "irq", "acpi", "scsi", "mtrr"];
/** The host's passwords, which are root's to read. */
const PASSWORDS = ["shadow", "shadow-", "gshadow", "gshadow-"];
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
    ...ownDevices(programs, mount),
    `${mount} -t proc -o nosuid,nodev,noexec proc /proc`,
    ...(given.isRoot ? readOnly(mount, given.seclusion) : []),
    `cd ${quoted(given.cwd)}`,
    "set +e\n",
  );
  return lines.join("\n");
}

function within(folder: string): (kept: { path: string }) => boolean {
  return ({ path }) => isWithin(folder, path);
}

/** Terminals are of an instance of its own; the one that it is started in is /dev/console. */
function ownDevices({ mkdir, ln }: Entrance["programs"], mount: string): string[] {
  const links = Object.entries(DEVICE_LINKS);
  return [
    `${mount} -t tmpfs -o mode=0755,size=1m,nosuid,nodev,noexec tmpfs ${STAGE}`,
    `${mkdir} ${STAGE}/pts ${STAGE}/shm`,
    ...DEVICES.flatMap((name) => bound(`/dev/${name}`, name)),
    "if [ -t 0 ]; then",
    ...bound("/proc/self/fd/0", "console"),
    "fi",
    ...links.map(([name, target]) => `${ln} -s ${target} ${STAGE}/${name}`),
    // 5 is the group tty's number everywhere.
    `${mount} -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5,nosuid,noexec devpts ${STAGE}/pts`,
    `${mount} -t tmpfs -o mode=1777,size=512m,nosuid,nodev tmpfs ${STAGE}/shm`,
    `${mount} -o remount,ro,bind ${STAGE}`,
    `${mount} --move ${STAGE} /dev`,
  ];

  function bound(source: string, name: string): string[] {
    return [`: > ${STAGE}/${name}`, `${mount} --bind ${source} ${STAGE}/${name}`];
  }
}

/** Every file system but the trial's own rooms: what is root's is the host's. */
function readOnly(mount: string, { own, asTmp }: Seclusion): string[] {
  const settings = SETTINGS.map((name) => `/proc/${name}`).filter((path) => existsSync(path));
  const passwords = PASSWORDS.flatMap((name) => realpathOrNull(`/etc/${name}`) ?? []);
  const kept = ["/dev", "/proc", ...own].flatMap((path) => [quoted(path), `${quoted(path)}/*`]);
  const skipped = [...kept, ...[...asTmp, ...passwords].map(quoted)].join("|");
  return [
    ...own.map((room) => `${mount} --bind ${quoted(room)} ${quoted(room)}`),
    ...settings.flatMap((at) => [
      `${mount} --bind ${at} ${at}`,
      `${mount} -o remount,ro,bind ${at}`,
    ]),
    // A device that may not be opened as one: nobody reads it, whoever owns it.
    ...passwords.flatMap((at) => [
      `${mount} --bind /dev/null ${quoted(at)}`,
      `${mount} -o remount,ro,nodev,bind ${quoted(at)}`,
    ]),
    ...eachMount(skipped, `${mount} -o remount,ro,nodev,bind "$at" 2>/dev/null || :`),
    // What lies under another mount cannot be told, and need not be: what is seen there counts.
    ...eachMount(skipped, '[ ! -w "$at" ] || { echo "$at stays writable" >&2; exit 1; }'),
  ];
}

/** In a shell of its own, so that no variable of the program's is taken. */
function eachMount(skipped: string, action: string): string[] {
  return [
    "( while read -r _ _ _ _ at _; do",
    // Blanks are told as octal numbers: proc_pid_mountinfo(5).
    "case $at in",
    '*%*\\\\*|*\\\\*%*) echo "$at: a mount whose name has blanks and %" >&2; exit 1;;',
    // As the format, since %b would take a digit that follows for one of the number's.
    '*\\\\*) at=$(printf "$at");;',
    "esac",
    `case $at in ${skipped}) continue;; esac`,
    '[ -e "$at" ] || continue',
    action,
    "done < /proc/self/mountinfo )",
  ];
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
