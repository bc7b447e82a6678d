/** What `createApi` may be told besides its services; each default is beside its use. */

/** A file of a package that the web UI may load (dashboards/web/vendor.ts). */
export interface VendorFile {
  /** The path under which it is served: "/vendor/htm-preact.js". */
  url: string;
  /** Path of the file under the packages' folder: "htm/preact/standalone.module.js". */
  packagePath: string;
}

export interface WebOptions {
  /** dashboards/web. */
  dir: string;
  /** node_modules, which the vendor files lie in. */
  packagesDir: string;
  vendorFiles: readonly VendorFile[];
  contentSecurityPolicy: string;
}

export interface ApiOptions {
  /** The product's version, for the OpenAPI document. */
  version: string;
  /** Host names, lower case and without port, that requests may name besides loopback's. */
  allowedHosts?: readonly string[];
  /** The web UI. */
  web?: WebOptions;
  /** Whether browsers reach us over TLS only, so that the session's cookie is `Secure`. */
  isSecure?: boolean;
  heartbeatMs?: number;
  /** How often a stream looks by itself for what no notification told it. */
  pollMs?: number;
  loginLinkMs?: number;
}
