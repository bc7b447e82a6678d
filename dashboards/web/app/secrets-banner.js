/** Above every page: that the secrets cannot be opened, why, and what to do about it. */

import { html, useEffect } from "/vendor/htm-preact.js";
import { getJson } from "./api.js";
import { useLoad } from "./loading.js";

/** @typedef {import("../../../orchestrator/contract/secrets.ts").SecretsReport} SecretsReport */

const LOOK_EVERY_MS = 10_000;
const TITLES = {
  sealed: "The secrets are sealed",
  denied: "We are denied the secrets",
  expired: "Our login to the secrets has expired",
  unreachable: "The secrets cannot be reached",
};

export function SecretsBanner() {
  const { data, reload } = useLoad(
    (signal) => /** @type {Promise<SecretsReport>} */ (getJson("/secrets/status", signal)),
    [],
  );
  useEffect(() => {
    const timer = setInterval(() => {
      if (!document.hidden) void reload();
    }, LOOK_EVERY_MS);
    return () => clearInterval(timer);
  }, [reload]);
  if (data === null || data.state === "ready") return null;
  return html`<div class="notice bad secrets-banner" role="alert"><div>
    <strong>${TITLES[data.state]}.</strong> ${data.detail}. Trials that run go on; what needs a
    secret waits, and starts by itself afterwards.
  </div></div>`;
}
