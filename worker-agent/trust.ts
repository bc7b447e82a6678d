/**
 * Makes a trial's programs believe the egress proxy's authority: one bundle of the system's
 * authorities and ours, and every variable or store by which a tool finds its authorities.
 *
 * Invariant: nothing of the host's own stores is written to; what is made lies in `dir`, which the
 * agent's user reads and does not own, and in `home`, which is the trial's.
 */
import { constants } from "node:fs";
import { access, chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { delimiter, dirname, join } from "node:path";
import { rootCertificates } from "node:tls";
import { runTool } from "./install-tools.ts";
import { javaTrustStore } from "./java-truststore.ts";

/** Where distributions keep the bundle of what they trust. */
const SYSTEM_BUNDLES = [
  "/etc/ssl/certs/ca-certificates.crt", // Debian, Ubuntu, Alpine, Arch
  "/etc/pki/tls/certs/ca-bundle.crt", // Fedora, RHEL
  "/etc/ssl/ca-bundle.pem", // openSUSE
  "/etc/ssl/cert.pem", // macOS, BSD
];
const NICKNAME = "autocode-egress";
/** What every JDK's own store has; it holds certificates alone, no secret. */
const STORE_PASSWORD = "changeit";

export interface TrustRequest {
  /** Made when it is not there; its files can be read by everybody. */
  readonly dir: string;
  /** Of the proxy's authority. */
  readonly authorityPem: string;
  /** The file of the system's authorities; null: where this system keeps it, else Node's own. */
  readonly systemBundle: string | null;
  /** The trial's, for its NSS store (Chromium); null or absent: none is made. */
  readonly home?: string | null;
  /** Where certutil is looked for; absent: NSS is left out. */
  readonly path?: string;
}

export interface Trust {
  readonly env: Readonly<Record<string, string>>;
  /** What was written, for whoever hands it over or mounts it. */
  readonly files: readonly string[];
}

/**
 * Writes the bundle and the stores, and answers the variables that lead to them. May be run again:
 * what is there is written anew.
 *
 * @throws Error when `authorityPem` is no certificate, the bundle cannot be read, or a tool that
 * is here fails, with the tool's words.
 */
export async function prepareTrust(request: TrustRequest): Promise<Trust> {
  const { dir, home = null, path = "" } = request;
  const authorityPem = `${request.authorityPem.trim()}\n`;
  if (!authorityPem.startsWith("-----BEGIN CERTIFICATE-----")) {
    throw new Error("trust: authority_pem is no certificate in PEM; take it from the proxy");
  }
  const certificates = join(dir, "certificates");
  await mkdir(certificates, { recursive: true });
  for (const folder of [dir, certificates]) await chmod(folder, 0o755);
  const authority = join(certificates, "authority.pem");
  const bundle = join(dir, "bundle.pem");
  const wgetrc = join(dir, "wgetrc");
  await write(authority, authorityPem);
  const java = join(dir, "java-truststore");
  const system = await systemAuthorities(request.systemBundle);
  const believed = `${system.trim()}\n${authorityPem}`;
  await write(bundle, believed);
  await write(wgetrc, `ca_certificate = ${bundle}\n`);
  await write(java, javaTrustStore(believed, STORE_PASSWORD));
  const nss = home === null ? [] : await makeNssStores(home, authority, path);
  return {
    env: { ...variables(bundle, authority, wgetrc), ...javaVariables(java) },
    files: [authority, bundle, wgetrc, java, ...nss],
  };
}

/** By tool; an image's own values of these would lead past the bundle, so all are set. */
function variables(bundle: string, authority: string, wgetrc: string): Record<string, string> {
  return {
    // OpenSSL, Python's ssl, Go, Ruby, rustls-native-certs, uv. The folder is read by Go beside the
    // file; OpenSSL finds no hashed names in it, so that the bundle is all that it believes.
    SSL_CERT_FILE: bundle,
    SSL_CERT_DIR: dirname(authority),
    NIX_SSL_CERT_FILE: bundle,
    CURL_CA_BUNDLE: bundle,
    GIT_SSL_CAINFO: bundle,
    WGETRC: wgetrc,
    REQUESTS_CA_BUNDLE: bundle,
    PIP_CERT: bundle,
    HTTPLIB2_CA_CERTS: bundle,
    GRPC_DEFAULT_SSL_ROOTS_FILE_PATH: bundle,
    AWS_CA_BUNDLE: bundle,
    CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE: bundle,
    CARGO_HTTP_CAINFO: bundle,
    DENO_CERT: authority,
    // Node adds it to its own authorities, and reads the proxy's variables when told to.
    NODE_EXTRA_CA_CERTS: authority,
    NODE_USE_ENV_PROXY: "1",
    npm_config_cafile: bundle,
    YARN_HTTPS_CA_FILE_PATH: bundle,
  };
}

function javaVariables(store: string): Record<string, string> {
  const options = [
    `-Djavax.net.ssl.trustStore=${store}`,
    `-Djavax.net.ssl.trustStorePassword=${STORE_PASSWORD}`,
  ];
  return { JAVA_TOOL_OPTIONS: options.join(" ") };
}

async function systemAuthorities(file: string | null): Promise<string> {
  if (file !== null) return readFile(file, "utf8");
  for (const candidate of SYSTEM_BUNDLES) {
    const found = await readFile(candidate, "utf8").catch(() => null);
    if (found !== null) return found;
  }
  return rootCertificates.join("\n");
}

/** Where Chromium looks: its place of old, and the one beside other data. */
async function makeNssStores(home: string, authority: string, path: string): Promise<string[]> {
  const certutil = await findProgram("certutil", path);
  if (certutil === null) return [];
  const stores = [join(home, ".pki/nssdb"), join(home, ".local/share/pki/nssdb")];
  for (const store of stores) {
    await mkdir(store, { recursive: true, mode: 0o700 });
    const database = `sql:${store}`;
    const options = { cwd: home, env: { PATH: path, HOME: home } };
    if (!(await canAccess(join(store, "cert9.db"), constants.R_OK))) {
      await runTool(certutil, ["-N", "-d", database, "--empty-password"], options);
    }
    const trusted = ["-A", "-n", NICKNAME, "-t", "C,,", "-i", authority];
    await runTool(certutil, [...trusted, "-d", database], options);
  }
  return stores;
}

async function findProgram(name: string, path: string): Promise<string | null> {
  for (const folder of path.split(delimiter)) {
    const file = join(folder, name);
    if (folder !== "" && (await canAccess(file, constants.X_OK))) return file;
  }
  return null;
}

function canAccess(path: string, mode: number): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false,
  );
}

async function write(path: string, content: string | Buffer): Promise<void> {
  await writeFile(path, content);
  await chmod(path, 0o644);
}
