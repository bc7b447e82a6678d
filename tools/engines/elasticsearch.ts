/**
 * Elasticsearch 9.5.3 for tests, into `.engines/elasticsearch/`: the server's jars from Maven
 * Central, by Maven, and a main class of our own, compiled here. Each jar is checked by its hash.
 * The jars are Elastic's (AGPL, SSPL or Elastic License): used by tests, never shipped. Idempotent.
 */
import { createHash } from "node:crypto";
import { access, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { env } from "node:process";
import { run } from "./run.ts";

const NAME = "elasticsearch 9.5.3";
const SOURCE = join(import.meta.dirname, "elasticsearch");
const COPY = "org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies";
/** Elasticsearch 9's least. */
const JAVA_LEAST = 21;
/** Where Linux distributions and macOS put theirs. */
const JVM_FOLDERS = ["/usr/lib/jvm", "/Library/Java/JavaVirtualMachines", "/opt"];
const MODULE = "transport-netty4";

/**
 * Installs it unless it is there.
 *
 * @throws Error when there is no JDK for it, no Maven, or a jar is not the one that was pinned.
 */
export async function installElasticsearch(
  dir: string,
  tell: (line: string) => void,
): Promise<void> {
  const marker = join(dir, "java-home");
  if (await isThere(marker)) {
    tell(`elasticsearch: ${NAME} is there`);
    return;
  }
  const java = await findJdk();
  tell(`elasticsearch: installing ${NAME} for the JDK in ${java}`);
  await rm(dir, { recursive: true, force: true });
  const jars = join(dir, "jars");
  await mkdir(jars, { recursive: true });
  const pom = join(SOURCE, "pom.xml");
  await run("mvn", ["-B", "-q", "-f", pom, COPY, `-DoutputDirectory=${jars}`]);
  await checkJars(jars);
  await layOut(dir, jars, java);
  await run(join(java, "bin/javac"), [
    ...["-p", join(dir, "lib"), "--add-modules", "ALL-MODULE-PATH"],
    ...["-d", join(dir, "classes"), join(SOURCE, "ElasticsearchNode.java")],
  ]);
  await writeFile(marker, `${java}\n`);
  tell(`elasticsearch: installed ${NAME}`);
}

/** Every jar is pinned, and every pinned jar is there. */
async function checkJars(jars: string): Promise<void> {
  const found: string[] = [];
  for (const name of (await readdir(jars)).sort()) {
    const sha256 = createHash("sha256").update(await readFile(join(jars, name)));
    found.push(`${sha256.digest("hex")}  ${name}`);
  }
  const pinned = (await readFile(join(SOURCE, "jars.sha256"), "utf8")).trim().split("\n");
  const wrong = [
    ...found.filter((line) => !pinned.includes(line)),
    ...pinned.filter((line) => !found.includes(line)),
  ];
  if (wrong.length > 0) throw new Error(`not the pinned jars: ${wrong.join("; ")}`);
}

/** As the server wants it: its own module in `home/modules`, with what describes it unpacked. */
async function layOut(dir: string, jars: string, java: string): Promise<void> {
  const module = join(dir, "home/modules", MODULE);
  const lib = join(dir, "lib");
  for (const folder of [module, lib, ...["config", "plugins"].map((of) => join(dir, "home", of))]) {
    await mkdir(folder, { recursive: true });
  }
  for (const name of await readdir(jars)) {
    const isOfModule = name.startsWith("netty-") || name.startsWith(`${MODULE}-`);
    await rename(join(jars, name), join(isOfModule ? module : lib, name));
  }
  const jar = (await readdir(module)).find((name) => name.startsWith(`${MODULE}-`)) ?? "";
  const inside = `META-INF/es-plugins/${MODULE}`;
  const described = ["plugin-descriptor.properties", "entitlement-policy.yaml"];
  await run(
    join(java, "bin/jar"),
    ["xf", join(module, jar), ...described.map((file) => `${inside}/${file}`)],
    dir,
  );
  for (const file of described) await rename(join(dir, inside, file), join(module, file));
  await rm(join(dir, "META-INF"), { recursive: true });
  await rm(jars, { recursive: true });
}

/** The home of the newest JDK that is new enough, wherever it was put. */
async function findJdk(): Promise<string> {
  const homes = env["JAVA_HOME"] === undefined ? [] : [env["JAVA_HOME"]];
  for (const folder of JVM_FOLDERS) {
    const names = await readdir(folder).catch(() => []);
    homes.push(
      ...names.flatMap((name) => [name, `${name}/Contents/Home`].map((at) => join(folder, at))),
    );
  }
  const found: { home: string; version: number }[] = [];
  for (const home of homes) {
    const release = await readFile(join(home, "release"), "utf8").catch(() => "");
    const version = Number(/^JAVA_VERSION="(\d+)/m.exec(release)?.[1] ?? 0);
    if (version >= JAVA_LEAST && (await isThere(join(home, "bin/javac")))) {
      found.push({ home, version });
    }
  }
  const [newest] = found.sort((a, b) => b.version - a.version);
  if (newest === undefined) {
    throw new Error(`no JDK ${JAVA_LEAST} or newer: install one, or set JAVA_HOME`);
  }
  return newest.home;
}

function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
