/** The web UI's entry: the frame around every page, and which page an address shows. */
import { html, render, useErrorBoundary } from "/vendor/htm-preact.js";
import { loadStyle } from "./assets.js";
import { startLive, useLive, useLiveStatus } from "./live.js";
import { useLoad } from "./loading.js";
import { Empty, Failure, Skeleton } from "./parts.js";
import { followLinks, useAddress } from "./router.js";
import { SecretsBanner } from "./secrets-banner.js";
import { TrialsPage } from "./trials-page.js";

const NAVIGATION = [
  {
    href: "/",
    title: "Trials",
    isHere: (/** @type {string} */ path) =>
      !/^\/(budgets|traffic|models|workers|doctor)/.test(path),
  },
  {
    href: "/budgets",
    title: "Budgets",
    isHere: (/** @type {string} */ path) => path.startsWith("/budgets"),
  },
  {
    href: "/traffic",
    title: "Traffic",
    isHere: (/** @type {string} */ path) => path.startsWith("/traffic"),
  },
  {
    href: "/models",
    title: "Models",
    isHere: (/** @type {string} */ path) => path.startsWith("/models"),
  },
  {
    href: "/workers",
    title: "Workers",
    isHere: (/** @type {string} */ path) => path === "/workers",
  },
  { href: "/doctor", title: "Doctor", isHere: (/** @type {string} */ path) => path === "/doctor" },
];
const LIVE_TEXT = {
  connecting: "Connecting",
  live: "Live",
  lost: "Reconnecting",
  paused: "Paused",
};

function App() {
  const { path, search } = useAddress();
  return html`
    <a class="skip" href="#content">Skip to content</a>
    <${TopBar} path=${path} />
    <${SecretsBanner} />
    <div id="content" tabindex="-1"><${Guarded} key=${path.split("/", 3).join("/")} path=${path}
      search=${search} /></div>
  `;
}

/** @param {{ path: string }} props */
function TopBar({ path }) {
  const status = useLiveStatus();
  return html`<header class="top">
    <div class="top-inner">
      <a class="brand" href="/" aria-label="autocode, trials">
        <svg viewBox="0 0 32 32" aria-hidden="true">
          <rect width="32" height="32" rx="8" />
          <path d="M9 10.5 14.5 16 9 21.5M17 21.5h6.5" />
        </svg>
        <span>autocode</span>
      </a>
      <nav aria-label="Main">
        ${NAVIGATION.map(
          ({ href, title, isHere }) =>
            html`<a href=${href} aria-current=${isHere(path) ? "page" : undefined}>${title}</a>`,
        )}
      </nav>
      <span class=${`live ${status}`} role="status"><span class="dot"></span><span
        class="live-text">${LIVE_TEXT[status]}</span></span>
    </div>
  </header>`;
}

/**
 * A page that fails in drawing says so instead of leaving a blank one.
 *
 * @param {{ path: string, search: URLSearchParams }} props
 */
function Guarded({ path, search }) {
  const [error, reset] = useErrorBoundary();
  if (error) {
    return html`<main class="page"><${Failure} error=${error} onRetry=${reset} /></main>`;
  }
  return html`<${Page} path=${path} search=${search} />`;
}

/** @param {{ path: string, search: URLSearchParams }} props */
function Page({ path, search }) {
  const [, section = "", name = "", tab = ""] = path.split("/").map(decoded);
  if (section === "") return html`<${TrialsPage} search=${search} />`;
  if (section === "trials" && name !== "") {
    return html`<${Lazy} load=${trialPage} id=${name} tab=${tab || "timeline"} />`;
  }
  if (section === "budgets" && name !== "") {
    return html`<${Lazy} load=${budgetPage} name=${name} tab=${tab || "overview"} />`;
  }
  if (section === "budgets") return html`<${Lazy} load=${budgetsPage} />`;
  if (section === "traffic" && name !== "") {
    return html`<${Lazy} load=${flowPage} id=${name} tab=${tab} />`;
  }
  if (section === "traffic") return html`<${Lazy} load=${trafficPage} search=${search} />`;
  if (section === "models")
    return html`<${Lazy} load=${modelsPage} tab=${name} search=${search} />`;
  if (section === "workers") return html`<${Lazy} load=${workersPage} />`;
  if (section === "doctor") return html`<${Lazy} load=${doctorPage} />`;
  return html`<main class="page">
    <${Empty} title="There is no such page"><p><a href="/">Go to the trials</a></p><//>
  </main>`;
}

const trialPage = async () => {
  const styles = ["trial", "records", "budgets", "traffic"].map((name) =>
    loadStyle(`/style/${name}.css`),
  );
  const [{ TrialPage }] = await Promise.all([import("./trial-page.js"), ...styles]);
  return TrialPage;
};
const budgetStyle = () => loadStyle("/style/budgets.css");
const budgetsPage = async () => {
  const [{ BudgetsPage }] = await Promise.all([import("./budgets-page.js"), budgetStyle()]);
  return BudgetsPage;
};
const budgetPage = async () => {
  const [{ BudgetPage }] = await Promise.all([import("./budget-page.js"), budgetStyle()]);
  return BudgetPage;
};
const trafficPage = async () => {
  const style = loadStyle("/style/traffic.css");
  const [{ TrafficPage }] = await Promise.all([import("./traffic-page.js"), style]);
  return TrafficPage;
};
const flowPage = async () => {
  const style = loadStyle("/style/traffic.css");
  const [{ FlowPage }] = await Promise.all([import("./flow-page.js"), style]);
  return FlowPage;
};
const modelsPage = async () => {
  const style = loadStyle("/style/models.css");
  const [{ ModelsPage }] = await Promise.all([import("./models-page.js"), style]);
  return ModelsPage;
};
const workersPage = async () => {
  const style = loadStyle("/style/workers.css");
  const [{ WorkersPage }] = await Promise.all([import("./workers-page.js"), style]);
  return WorkersPage;
};
const doctorPage = async () => {
  const [{ DoctorPage }] = await Promise.all([import("./doctor-page.js"), budgetStyle()]);
  return DoctorPage;
};

/**
 * A page whose module is read when it is first shown, and again once the server is back.
 *
 * @param {{ load: () => Promise<unknown>, [prop: string]: unknown }} props
 */
function Lazy({ load, ...props }) {
  const { data, error, reload } = useLoad(async () => ({ page: await load() }), [load]);
  useLive(ignoreEvent, () => data === null && void reload(), [data, reload]);
  if (error) return html`<main class="page"><${Failure} error=${error} onRetry=${reload} /></main>`;
  if (data === null) return html`<main class="page"><${Skeleton} lines=${5} /></main>`;
  return html`<${data.page} ...${props} />`;
}

function ignoreEvent() {}

/** @param {string} part */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

followLinks();
startLive();
const root = document.getElementById("app");
if (root !== null) render(html`<${App} />`, root);
