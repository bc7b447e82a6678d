/** The small parts every page is made of. What they are given is text, never markup. */
import { html } from "/vendor/htm-preact.js";
import { formatMoment } from "./format.js";
import { decimalsOf, formatDigits, formatMoney, isTokens, percentOf } from "./money.js";
import { toneOf } from "./trial-facts.js";

/** @typedef {import("../../../orchestrator/contract/money.ts").Balance} Balance */

const VERDICT_SIGNS = { passed: "check", failed: "cross", error: "bang" };
const ICONS = {
  check: "M3.5 8.5 6.5 11.5 12.5 4.5",
  cross: "M4 4l8 8M12 4l-8 8",
  bang: "M8 3v6M8 12.2v.3",
  arrow: "M6 3.5 10.5 8 6 12.5",
  download: "M8 2.5v7.5M4.5 7 8 10.5 11.5 7M3 13.5h10",
  stop: "M4 4h8v8H4z",
  resume: "M5 3.5v9l7-4.5z",
  fork: "M5 3v10M5 9c4.5 0 6-2 6-6M8.8 5 11 3l2.2 2",
  plus: "M8 3v10M3 8h10",
};

/** @param {{ name: keyof typeof ICONS }} props */
export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true"><path d=${ICONS[name]} />
    </svg>`;
}

/** @param {{ verdict: "passed" | "failed" | "error" | null }} props */
export function Verdict({ verdict }) {
  if (verdict === null)
    return html`<span class="verdict none" aria-label="no verdict yet">–</span>`;
  return html`<span class=${`verdict ${verdict}`}>
    <${Icon} name=${VERDICT_SIGNS[verdict]} />${verdict}
  </span>`;
}

/** @param {{ trial: import("./trial-facts.js").Trial }} props */
export function State({ trial }) {
  return html`<span class=${`state ${toneOf(trial)}`} title=${trial.reason ?? ""}>
    <span class="dot"></span>${trial.state}
  </span>`;
}

/** Says that no real model was at work; stands wherever such a trial does. */
export function ScriptedLabel() {
  return html`<span class="tag scripted" title="Played from a script: a stand-in for a real model">
    scripted model
  </span>`;
}

/** Says that a record answered, not a model. @param {{ of: string, isLink?: boolean }} props */
export function ReplayLabel({ of, isLink = false }) {
  const name = `replay of …${of.slice(-6)}`;
  const title = `Answered by the record of ${of}: it cost nothing`;
  if (!isLink) return html`<span class="tag replay" title=${title}>${name}</span>`;
  return html`<a class="tag replay" href=${`/trials/${of}`} title=${title}>${name}</a>`;
}

/**
 * An amount with its currency muted, to the decimals of its column where they are given.
 *
 * @param {{ nanos: bigint | string, currency: string, decimals?: number, isBare?: boolean }} props
 */
export function Money({ nanos, currency, decimals, isBare = false }) {
  const amount = BigInt(nanos);
  if (isTokens(currency)) {
    const text = isBare ? amount.toLocaleString("en") : formatMoney(amount, currency);
    return html`<span class="money">${text}</span>`;
  }
  const exact = `${formatDigits(amount, 9)} ${currency}`;
  return html`<span class="money" title=${exact}>
    ${formatDigits(amount, decimals ?? decimalsOf(amount, currency))}
    ${!isBare && html`<span class="currency"> ${currency}</span>`}
  </span>`;
}

/** A moment, in full on hover and for machines. @param {{ at: string, text?: string }} props */
export function Time({ at, text }) {
  const full = formatMoment(at);
  return html`<time datetime=${at} title=${full}>${text ?? full}</time>`;
}

/**
 * A balance as a bar: spent, reserved, and what is left; `marks`: percents to tick on it.
 *
 * @param {{
 *   balance: Balance, label: string, isThin?: boolean, marks?: readonly number[],
 * }} props
 */
export function BalanceBar({ balance, label, isThin = false, marks = [] }) {
  const funded = BigInt(balance.funded_nanos);
  const spent = percentOf(BigInt(balance.spent_nanos), funded);
  const reserved = Math.min(percentOf(BigInt(balance.reserved_nanos), funded), 100 - spent);
  const tone = spent >= 100 ? "full" : spent + reserved >= 80 ? "high" : "";
  const said = `${label}: ${spent.toFixed(0)} % spent, ${reserved.toFixed(0)} % reserved`;
  return html`<div class=${`bar ${isThin ? "thin" : ""} ${tone}`} role="img" aria-label=${said}>
    <span class="spent" style=${{ width: `${spent}%` }}></span>
    <span class="reserved" style=${{ width: `${reserved}%` }}></span>
    ${marks
      .filter((percent) => percent < 100)
      .map((percent) => html`<span class="tick" style=${{ left: `${percent}%` }}></span>`)}
  </div>`;
}

/** Grey lines where content will be. @param {{ lines?: number, label?: string }} props */
export function Skeleton({ lines = 4, label = "Loading" }) {
  const widths = [92, 78, 85, 64, 88, 71];
  return html`<div class="skeleton" role="status" aria-label=${label}>
    ${Array.from({ length: lines }, (_, line) => {
      return html`<span style=${{ width: `${widths[line % widths.length]}%` }}></span>`;
    })}
  </div>`;
}

/**
 * Nothing to show, and what to do about it.
 *
 * @param {{ title: string, children?: unknown }} props
 */
export function Empty({ title, children }) {
  return html`<div class="empty"><p class="empty-title">${title}</p>${children}</div>`;
}

/**
 * A read that failed: why, and again.
 *
 * @param {{ error: Error, onRetry?: () => void }} props
 */
export function Failure({ error, onRetry }) {
  if ("status" in error && error.status === 401) return html`<${SignIn} />`;
  const title = "title" in error ? String(error.title) : "Something went wrong in this page";
  return html`<div class="notice bad" role="alert">
    <div>
      <strong>${title}</strong>
      <p>${error.message}</p>
    </div>
    ${
      onRetry &&
      html`<button type="button" class="button"
      onClick=${() => onRetry()}>Try again</button>`
    }
  </div>`;
}

/** The session has ended: only a new link from the command line begins another. */
function SignIn() {
  return html`<div class="empty" role="alert">
    <p class="empty-title">Your session has ended</p>
    <p>Print a new link in a terminal, and open it here:</p>
    <pre class="command">autocode login</pre>
  </div>`;
}

/** @param {{ tone: "warn" | "bad" | "info", children?: unknown }} props */
export function Notice({ tone, children }) {
  return html`<div class=${`notice ${tone}`}><div>${children}</div></div>`;
}
