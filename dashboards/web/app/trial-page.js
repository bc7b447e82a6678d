/** One trial: its outcome and cost on top, and its records in tabs below. */
import { html, useEffect } from "/vendor/htm-preact.js";
import { getJson } from "./api.js";
import { ApprovalCard } from "./approval-card.js";
import { ArtefactsView } from "./artefacts-view.js";
import { CallsView } from "./calls-view.js";
import { CheckpointsView } from "./checkpoints-view.js";
import { DiffView } from "./diff-view.js";
import { EnginesView } from "./engines-view.js";
import { asWords, formatAgo, formatCount, formatDuration, inputTokens } from "./format.js";
import { useLive } from "./live.js";
import { useBatched, useLoad } from "./loading.js";
import { formatMoney } from "./money.js";
import {
  BalanceBar,
  Empty,
  Failure,
  Money,
  Notice,
  ReplayLabel,
  ScriptedLabel,
  Skeleton,
  State,
  Time,
  Verdict,
} from "./parts.js";
import { useServerNow } from "./server-clock.js";
import { TerminalView } from "./terminal-view.js";
import { TimelineView } from "./timeline-view.js";
import { TrialActions } from "./trial-actions.js";
import { useTrialEvents } from "./trial-events.js";
import { durationOf, isActive, toneOf } from "./trial-facts.js";
import { TrialTraffic } from "./trial-traffic.js";
import { WorkerLogView } from "./worker-log-view.js";

/** @typedef {import("./trial-facts.js").Trial} Trial */

const TABS = [
  { name: "timeline", title: "Timeline" },
  { name: "terminal", title: "Terminal" },
  { name: "diff", title: "Diff" },
  { name: "calls", title: "Calls" },
  { name: "engines", title: "Engines" },
  { name: "traffic", title: "Traffic" },
  { name: "artefacts", title: "Artefacts" },
  { name: "checkpoints", title: "Checkpoints" },
  { name: "worker", title: "Worker log" },
];

/** @param {{ id: string, tab: string }} props */
export function TrialPage({ id, tab }) {
  const trial = useLoad((signal) => getJson(`/trials/${encodeURIComponent(id)}`, signal), [id]);
  const events = useTrialEvents(id);
  const readAgain = useBatched(() => void trial.reload(), 300);
  useLive(
    (event) => {
      if (event.trial_id === id && !event.type.startsWith("agent.")) readAgain();
    },
    readAgain,
    [id, readAgain],
  );
  useTitle(trial.data);
  if (trial.data === null) return html`<main class="page"><${NotShown} trial=${trial} /></main>`;
  return html`<main class="page">
    ${trial.error && html`<${Failure} error=${trial.error} onRetry=${trial.reload} />`}
    <${TrialHead} trial=${trial.data} onChanged=${trial.reload} />
    ${
      trial.data.state === "paused" &&
      trial.data.approval_id !== null &&
      html`<${ApprovalCard} id=${trial.data.approval_id} onAnswered=${trial.reload} />`
    }
    <nav class="tabs" aria-label="Records of the trial">
      ${TABS.map(
        ({ name, title }) => html`<a href=${`/trials/${id}${name === "timeline" ? "" : `/${name}`}`}
          aria-current=${name === tab ? "page" : undefined}>${title}
          ${
            name === "calls" &&
            trial.data.call_count > 0 &&
            html` <span
            class="count">${formatCount(trial.data.call_count)}</span>`
          }
        </a>`,
      )}
    </nav>
    <section class="tab-body" aria-label=${tab}>
      <${TabBody} tab=${tab} trial=${trial.data} events=${events} />
    </section>
  </main>`;
}

/** @param {{ trial: ReturnType<typeof useLoad<Trial>> }} props */
function NotShown({ trial: { error, reload } }) {
  if (error === null) return html`<${Skeleton} lines=${6} label="Loading the trial" />`;
  if (!("status" in error) || error.status !== 404) {
    return html`<${Failure} error=${error} onRetry=${reload} />`;
  }
  return html`<${Empty} title="There is no such trial">
    <p>${error.message}</p>
    <p><a href="/">Show all trials</a></p>
  <//>`;
}

/** @param {{ tab: string, trial: Trial, events: ReturnType<typeof useTrialEvents> }} props */
function TabBody({ tab, trial, events }) {
  switch (tab) {
    case "terminal":
      return html`<${TerminalView} trial=${trial} />`;
    case "diff":
      return html`<${DiffView} trial=${trial} />`;
    case "calls":
      return html`<${CallsView} trial=${trial} />`;
    case "engines":
      return html`<${EnginesView} trial=${trial} />`;
    case "traffic":
      return html`<${TrialTraffic} trial=${trial} />`;
    case "checkpoints":
      return html`<${CheckpointsView} trial=${trial} />`;
    case "worker":
      return html`<${WorkerLogView} trial=${trial} />`;
    case "artefacts":
      return html`<${ArtefactsView} trial=${trial} />`;
    default:
      return html`<${TimelineView} trial=${trial} events=${events} />`;
  }
}

/** @param {{ trial: Trial, onChanged: () => void }} props */
function TrialHead({ trial, onChanged }) {
  const facts = [`Attempt ${trial.attempt}`, `seed ${trial.seed}`];
  if (trial.forked_from !== null) facts.push("forked");
  if (trial.tries > 1) facts.push(`${trial.tries} allocations`);
  return html`<header class=${`card trial-head ${toneOf(trial)}`}>
    <div class="trial-title">
      <p class="crumbs">
        <a href="/">Trials</a> <span aria-hidden="true">/</span> <a
          href=${`/?project=${encodeURIComponent(trial.project)}`}>${trial.project}</a>
      </p>
      <h1>${trial.task}</h1>
      <p class="trial-what">
        <strong>${trial.agent}</strong> ${trial.agent_version ?? ""} with${" "}
        <strong>${trial.pair}</strong>
        ${trial.is_scripted && html` <${ScriptedLabel} />`}
        ${trial.replay_of !== null && html` <${ReplayLabel} of=${trial.replay_of} isLink />`}
        ${trial.flags.map((flag) => html` <span class="tag warn">${asWords(flag)}</span>`)}
      </p>
      <p class="muted trial-small">
  ${facts.join(" · ")} <span class="trial-sep">·</span> <span class="mono id">${trial.id}</span>
    </p>
    </div>
    <div class="trial-outcome">
      <div class="outcome"><${State} trial=${trial} /><${Verdict} verdict=${trial.verdict} /></div>
      <${TrialActions} trial=${trial} onChanged=${onChanged} />
    </div>
    ${
      trial.reason !== null &&
      html`<${Notice} tone=${toneOf(trial) === "warn" ? "warn" : "info"}>
      <p>${trial.reason}</p><//>`
    }
    ${
      trial.resume_at !== null &&
      html`<${Notice} tone="info">
      <p>It goes on by itself at <${Time} at=${trial.resume_at} />.</p><//>`
    }
    <${TrialFigures} trial=${trial} />
  </header>`;
}

/** @param {{ trial: Trial }} props */
function TrialFigures({ trial }) {
  const nowMs = useServerNow(isActive(trial));
  const durationMs = durationOf(trial, nowMs);
  const { budget, usage } = trial;
  const cached = usage.cache_read_tokens;
  const ago = formatAgo(trial.started_at ?? trial.created_at, nowMs);
  const began = `${trial.started_at === null ? "queued" : "started"} ${ago}`;
  return html`<dl class="figures trial-figures">
    ${budget !== null && html`<${Allowance} budget=${budget} id=${trial.id} />`}
    <div>
      <dt>Tokens in / out</dt>
      <dd>${formatCount(inputTokens(usage))}<span
        class="of"> / ${formatCount(usage.output_tokens)}</span></dd>
      <dd class="note">${cached > 0 ? `${formatCount(cached)} from cache` : "none from cache"}</dd>
    </div>
    <div>
      <dt>Calls</dt>
      <dd>${formatCount(trial.call_count)}</dd>
    </div>
    <div>
      <dt>Time</dt>
      <dd>${durationMs === null ? "–" : formatDuration(durationMs)}</dd>
      <dd class="note">
        <${Time} at=${trial.started_at ?? trial.created_at}
          text=${began} />
      </dd>
    </div>
  </dl>`;
}

/** @param {{ budget: NonNullable<Trial["budget"]>, id: string }} props */
function Allowance({ budget, id }) {
  const { currency } = budget;
  const isReserving = BigInt(budget.reserved_nanos) > 0n;
  return html`<div class="allowance">
    <dt>Cost</dt>
    <dd>
      <${Money} nanos=${budget.spent_nanos} currency=${currency} />
      <span class="of"> of ${formatMoney(budget.funded_nanos, currency)}</span>
    </dd>
    <dd><${BalanceBar} balance=${budget} label="Allowance" /></dd>
    <dd class="note">
      ${isReserving && `${formatMoney(budget.reserved_nanos, currency)} reserved · `}
      ${`${formatMoney(budget.available_nanos, currency)} left · `}<a
        href=${`/budgets/${encodeURIComponent(id)}/statement`}>statement</a>
    </dd>
  </div>`;
}

/** @param {Trial | null} trial */
function useTitle(trial) {
  const title =
    trial === null ? "autocode" : `${trial.verdict ?? trial.state}: ${trial.task} · autocode`;
  useEffect(() => {
    document.title = title;
    return () => {
      document.title = "autocode";
    };
  }, [title]);
}
