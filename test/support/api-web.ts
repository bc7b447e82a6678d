/** The web UI as the orchestrator serves it. */
import { resolve } from "node:path";
import { CONTENT_SECURITY_POLICY, VENDOR_FILES } from "../../dashboards/web/vendor.ts";
import type { WebOptions } from "../../orchestrator/api/options.ts";

const ROOT = resolve(import.meta.dirname, "../..");

export const WEB: WebOptions = {
  dir: resolve(ROOT, "dashboards/web"),
  packagesDir: resolve(ROOT, "node_modules"),
  vendorFiles: VENDOR_FILES,
  contentSecurityPolicy: CONTENT_SECURITY_POLICY,
};
