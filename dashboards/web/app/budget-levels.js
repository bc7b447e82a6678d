/** A budget and all that enclose it: how full each is, which marks it passed, how long it lasts. */
import { html } from "/vendor/htm-preact.js";
import { BalanceFigures } from "./balance-figures.js";
import { formatDuration, formatMoment } from "./format.js";
import { formatMoney, isTokens } from "./money.js";
import { BalanceBar, Money } from "./parts.js";

/** @typedef {import("../../../orchestrator/contract/budgets.ts").BudgetReport} BudgetReport */
/** @typedef {import("../../../orchestrator/contract/budgets.ts").BudgetLevel} BudgetLevel */

const SCOPES = {
  organisation: "Organisation",
  project: "Project",
  day: "Today",
  trial: "Trial",
};
/** Why there is no projection. */
const NO_PROJECTION = {
  not_spending: "Not being spent now",
  not_enough_history: "Too little spent to say how long it lasts",
  not_limited: "Has no limit of its own",
  exhausted: "Used up",
};

/**
 * @param {{ report: BudgetReport, nowMs: number, allowanceNanos: string | null }} props
 *   `allowanceNanos`: what each day is given, before anything is carried over
 */
export function BudgetLevels({ report, nowMs, allowanceNanos }) {
  return html`<section class="card levels" aria-label="Balances">
    ${report.levels.map(
      (level) => html`<${Level} key=${`${level.scope}/${level.balance.currency}`} level=${level}
        nowMs=${nowMs} timeZone=${report.time_zone} allowanceNanos=${allowanceNanos} />`,
    )}
    ${report.next_top_up !== null && html`<${NextTopUp} report=${report} />`}
  </section>`;
}

/**
 * @param {{
 *   level: BudgetLevel, nowMs: number, timeZone: string, allowanceNanos: string | null,
 * }} props
 */
function Level({ level, nowMs, timeZone, allowanceNanos }) {
  const { scope, balance, is_limited: isLimited } = level;
  const isOfTokens = isTokens(balance.currency);
  const title = `${SCOPES[scope]}${isOfTokens ? ", tokens" : ""}`;
  return html`<div class="level" role="group" aria-label=${title}>
    <h3>${title}</h3>
    ${
      isLimited
        ? html`<${BalanceBar} balance=${balance} label=${title} marks=${level.alerts} />`
        : html`<p class="muted small">${NO_PROJECTION.not_limited}</p>`
    }
    <${BalanceFigures} balance=${balance} isLimited=${isLimited} />
    <div class="level-facts">
      ${isLimited && level.alerts.length > 0 && html`<${Marks} level=${level} />`}
      <p class="muted small">${burnText(level, nowMs)}</p>
    </div>
    ${
      scope === "day" &&
      !isOfTokens &&
      html`<p class="muted small">${dayText(balance, allowanceNanos, timeZone)}</p>`
    }
  </div>`;
}

/** The marks at which people are told; those that spending has reached are filled. */
function Marks({ level: { alerts, passed } }) {
  const reached = new Set(passed);
  return html`<ul class="alert-marks" aria-label="Marks">
    ${alerts.map((percent) => {
      const isPassed = reached.has(percent);
      const tone = isPassed ? (percent >= 95 ? "bad" : "warn") : "";
      return html`<li key=${percent} class=${tone}>${percent} %<span
        class="unseen">${isPassed ? ", passed" : ", not reached"}</span></li>`;
    })}
  </ul>`;
}

/** @param {BudgetLevel} level @param {number} nowMs */
function burnText({ burn, balance }, nowMs) {
  const { currency } = balance;
  const hour = `${formatMoney(burn.last_hour_nanos, currency)} in the last hour`;
  const day = `${formatMoney(burn.last_day_nanos, currency)} in the last day`;
  const spent = burn.last_day_nanos === "0" ? "Nothing spent in the last day" : `${hour}, ${day}`;
  if (burn.lasts_the_day) return `${spent}. At this pace it lasts the day`;
  if (burn.exhausted_at !== null) {
    const left = Math.max(0, Date.parse(burn.exhausted_at) - nowMs);
    const when = formatMoment(burn.exhausted_at).slice(0, -3);
    return `${spent}. At this pace used up in ${formatDuration(left)}, at ${when}`;
  }
  const why = burn.basis === "not_limited" ? undefined : NO_PROJECTION[burn.basis];
  return why === undefined ? spent : `${spent}. ${why}`;
}

/**
 * @param {import("../../../orchestrator/contract/money.ts").Balance} balance
 * @param {string | null} allowanceNanos
 * @param {string} timeZone
 */
function dayText(balance, allowanceNanos, timeZone) {
  const begins = `A new day begins at midnight in ${timeZone}`;
  const carried = BigInt(balance.funded_nanos) - BigInt(allowanceNanos ?? balance.funded_nanos);
  if (carried <= 0n) return begins;
  return `${formatMoney(carried, balance.currency)} of it was carried over. ${begins}`;
}

/** @param {{ report: BudgetReport }} props */
function NextTopUp({ report }) {
  const { next_top_up: next, balance } = report;
  if (next === null) return null;
  return html`<p class="next-top-up">Next top-up: <${Money} nanos=${next.amount_nanos}
    currency=${balance.currency} /> on <time datetime=${next.at}
    title=${formatMoment(next.at)}>${next.date}</time>
    <span class="muted">${` (every ${next.every.replace("_", " ")})`}</span></p>`;
}
