/**
 * Makes a root file system with debootstrap and apt. Needs root, and a mirror. What is mounted for
 * it is mounted in a name space that ends with the commands, so nothing stays when they are ended.
 */
import { chmod, copyFile, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { lastWords, runTool } from "./tools.ts";
import { TemplateFault } from "./variables.ts";

export interface RootOptions {
  rootDir: string;
  /** The distribution's release: "bookworm", "noble". */
  suite: string;
  /** Null: the one that this machine's apt uses for that release. */
  mirror: string | null;
  packages: readonly string[];
  signal: AbortSignal;
  onProgress: (step: string, detail: string) => void;
}

/** What cloud-init and a worker need, where there is no distribution's own cloud image. */
const PACKAGES = [
  ...["linux-image-cloud-amd64", "initramfs-tools", "systemd-sysv", "libpam-systemd", "dbus"],
  ...["udev", "kmod", "cloud-init", "cloud-guest-utils", "e2fsprogs", "netplan.io", "iproute2"],
  ...["nftables", "openssh-server", "ca-certificates", "git", "procps", "systemd-resolved"],
];
/** A private mount name space: proc is there for maintainers' scripts, and gone with them. */
const INSIDE = 'mount -t proc proc "$1/proc" && exec chroot "$@"';
const ENVIRONMENT = ["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"];
/** A service must not start in a folder that is becoming a disk. */
const NO_SERVICES = "#!/bin/sh\nexit 101\n";

/** @throws TemplateFault in the failing program's own words. */
export async function makeRoot(options: RootOptions): Promise<void> {
  const { rootDir, suite, packages, onProgress } = options;
  const mirror = options.mirror ?? (await ownMirror(options));
  onProgress("debootstrap", `${suite} from ${mirror}`);
  await must(options, "debootstrap", "debootstrap", ["--variant=minbase", suite, rootDir, mirror]);
  const policy = join(rootDir, "usr/sbin/policy-rc.d");
  await writeFile(policy, NO_SERVICES);
  await chmod(policy, 0o755);
  await copyFile("/etc/resolv.conf", join(rootDir, "etc/resolv.conf"));
  onProgress("packages", "installing");
  await inside(options, ["apt-get", "update", "-qq"]);
  const install = ["apt-get", "install", "-y", "-q", "--no-install-recommends"];
  await inside(options, [...install, ...PACKAGES, ...packages]);
  await inside(options, ["apt-get", "clean"]);
  // netplan's generator would enable it only from the second start on.
  await inside(options, ["systemctl", "enable", "systemd-networkd.service"]);
  await makeUnique(rootDir);
  await rm(policy);
}

/** Keys and numbers that each VM must draw for itself, and lists that are soon old. */
async function makeUnique(rootDir: string): Promise<void> {
  await writeFile(join(rootDir, "etc/machine-id"), "");
  await writeFile(join(rootDir, "etc/fstab"), "/dev/vda / ext4 defaults,errors=remount-ro 0 1\n");
  const ssh = join(rootDir, "etc/ssh");
  for (const name of await readdir(ssh)) {
    if (name.startsWith("ssh_host_")) await rm(join(ssh, name));
  }
  await rm(join(rootDir, "var/lib/apt/lists"), { recursive: true, force: true });
  await rm(join(rootDir, "etc/resolv.conf"), { force: true });
  await symlink("../run/systemd/resolve/stub-resolv.conf", join(rootDir, "etc/resolv.conf"));
}

async function ownMirror({ suite, signal }: RootOptions): Promise<string> {
  const args = ["indextargets", "--format", "$(CODENAME) $(REPO_URI)"];
  const ended = await runTool("apt-get", args, { signal });
  const found = ended?.output.split("\n").find((line) => line.startsWith(`${suite} `));
  const mirror = found?.split(" ")[1];
  if (mirror !== undefined) return mirror;
  throw new TemplateFault(`this machine's apt has no mirror of ${suite}; name one with --mirror`);
}

function inside(options: RootOptions, command: readonly string[]): Promise<void> {
  const args = ["-c", INSIDE, "sh", options.rootDir, ...ENVIRONMENT, ...command];
  return must(options, "packages", "sh", args);
}

async function must(
  { signal, onProgress }: RootOptions,
  step: string,
  file: string,
  args: readonly string[],
): Promise<void> {
  const apart = ["--mount", "--pid", "--fork", "--kill-child", file, ...args];
  const onLine = (line: string) => onProgress(step, line);
  const ended = await runTool("unshare", apart, { signal, onLine });
  if (ended === null) throw new TemplateFault("unshare (of util-linux) is not installed");
  if (ended.exit === 0) return;
  const isAbsent = /unshare: failed to execute/.test(ended.output);
  if (isAbsent) throw new TemplateFault(`${file} is not installed; install it and try again`);
  throw new TemplateFault(`${file}: ${lastWords(ended.output)}`);
}
