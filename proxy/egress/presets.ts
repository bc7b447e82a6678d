/**
 * Rules that many projects need, by name: package registries and code to read. Each is read-only
 * and takes small requests alone, so that what can be fetched is no way to send something out.
 */
import type { EGRESS_PRESETS, EgressRule } from "../../orchestrator/contract/egress.ts";

export type PresetName = (typeof EGRESS_PRESETS)[number];

const READ = ["GET", "HEAD"];
const READ_BYTES_MAX = 64 * 1024;
/** What a client has, and what it wants: a line for each of its branches' tips. */
const NEGOTIATION_BYTES_MAX = 4 * 1024 * 1024;

export const PRESETS: Readonly<Record<PresetName, readonly EgressRule[]>> = {
  npm: [
    read(["registry.npmjs.org", "registry.yarnpkg.com"]),
    {
      action: "allow",
      hosts: ["registry.npmjs.org"],
      methods: ["POST"],
      paths: ["/-/npm/v1/security/**"],
      request_bytes_max: NEGOTIATION_BYTES_MAX,
      reason: "npm install asks whether what it installs is known to be broken",
    },
  ],
  pypi: [read(["pypi.org", "files.pythonhosted.org"])],
  debian: [read(["deb.debian.org", "security.debian.org"])],
  "github-read": [
    read(["github.com", "api.github.com", "codeload.github.com", "raw.githubusercontent.com"]),
    {
      ...read(["objects.githubusercontent.com", "release-assets.githubusercontent.com"]),
      allows_credentials: true,
      reason: "github.com signs the URLs of what it stores here",
    },
    {
      action: "allow",
      hosts: ["github.com"],
      methods: ["POST"],
      paths: ["/*/*/git-upload-pack"],
      request_bytes_max: NEGOTIATION_BYTES_MAX,
      reason: "git fetches with a POST; pushing is another path",
    },
  ],
};

function read(hosts: string[]): EgressRule {
  return { action: "allow", hosts, methods: READ, request_bytes_max: READ_BYTES_MAX };
}
