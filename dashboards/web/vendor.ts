/**
 * What the web UI is served with: the third-party files a browser may load, and the policy that
 * lets it load nothing else. The UI's own files are the rest of this folder, `.ts` and `.md` apart;
 * every other path outside `/api/` answers `index.html`.
 */

export interface VendorFile {
  /** The path under which it is served. */
  url: string;
  /** Where it lies, from `node_modules`. */
  packagePath: string;
}

export const VENDOR_FILES: readonly VendorFile[] = [
  // Preact, its hooks and htm in one module without imports, so that no import map is needed.
  { url: "/vendor/htm-preact.js", packagePath: "htm/preact/standalone.module.js" },
  // Loaded when a terminal is first looked at.
  {
    url: "/vendor/asciinema-player.js",
    packagePath: "asciinema-player/dist/bundle/asciinema-player.min.js",
  },
  {
    url: "/vendor/asciinema-player.css",
    packagePath: "asciinema-player/dist/bundle/asciinema-player.css",
  },
];

/** Of `index.html` and all beside it. The player's terminal is WebAssembly, made from a string. */
export const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'self'",
  "frame-ancestors 'none'",
].join("; ");
