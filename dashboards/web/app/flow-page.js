/** `/traffic/<flow>`: one flow, why it was let through or not, and what was in it. */
import { html, useEffect } from "/vendor/htm-preact.js";
import { AllowThis } from "./allow-this.js";
import { getJson } from "./api.js";
import { BodyView } from "./flow-body.js";
import { isAskable, isViolation, pathOf, phasesOf, placeOf, summaryOf } from "./flow-facts.js";
import { Outcome } from "./flow-table.js";
import {
  asWords,
  formatBytes,
  formatCount,
  formatDuration,
  formatOffset,
  visible,
} from "./format.js";
import { useLoad } from "./loading.js";
import { Empty, Failure, Money, Notice, Skeleton, Time } from "./parts.js";

/** @typedef {import("../../../orchestrator/contract/flows.ts").FlowRecord} FlowRecord */
/** @typedef {import("../../../orchestrator/contract/flow-views.ts").FlowDetail} FlowDetail */

/** @param {{ id: string, tab: string }} props */
export function FlowPage({ id, tab }) {
  const { data, error, reload } = useLoad(
    (signal) =>
      /** @type {Promise<FlowDetail>} */ (getJson(`/flows/${encodeURIComponent(id)}`, signal)),
    [id],
  );
  useEffect(() => {
    if (data === null) return;
    document.title = `${placeOf(summaryOf(data.flow))} · autocode`;
    return () => {
      document.title = "autocode";
    };
  }, [data]);
  if (data === null && error !== null && "status" in error && error.status === 404) {
    return html`<main class="page"><${Empty} title="There is no such flow">
      <p>${error.message}</p><p><a href="/traffic">Show all traffic</a></p><//></main>`;
  }
  if (data === null) {
    return html`<main class="page">${
      error === null
        ? html`<${Skeleton} lines=${8} label="Loading the flow" />`
        : html`<${Failure} error=${error} onRetry=${reload} />`
    }</main>`;
  }
  const tabs = tabsOf(data.flow);
  const shown = tabs.some(({ name }) => name === tab) ? tab : (tabs[0]?.name ?? "");
  return html`<main class="page">
    <${FlowHead} flow=${data.flow} />
    ${
      tabs.length > 0 &&
      html`<nav class="tabs" aria-label="Contents of the flow">
      ${tabs.map(
        ({ name, title }) => html`<a key=${name} href=${`/traffic/${id}/${name}`}
          aria-current=${name === shown ? "page" : undefined}>${title}</a>`,
      )}
    </nav>
    <section class="tab-body" aria-label=${shown}>
      <${Contents} detail=${data} tab=${shown} />
    </section>`
    }
  </main>`;
}

/** @param {FlowRecord} flow */
function tabsOf({ request, response, messages }) {
  return [
    ...(response === null ? [] : [{ name: "response", title: "Response" }]),
    ...(request === null ? [] : [{ name: "request", title: "Request" }]),
    ...(messages === null ? [] : [{ name: "messages", title: `Messages (${messages.length})` }]),
  ];
}

/** @param {{ flow: FlowRecord }} props */
function FlowHead({ flow }) {
  const summary = summaryOf(flow);
  const { decision, request } = flow;
  const tone = decision.action === "deny" ? "bad" : isViolation(summary) ? "warn" : "info";
  return html`<header class="card flow-head">
    <p class="crumbs"><a href="/traffic">Traffic</a>${
      flow.trial_id !== null &&
      html` <span aria-hidden="true">/</span> <a
        href=${`/trials/${encodeURIComponent(flow.trial_id)}/traffic`}>of its trial</a>`
    }</p>
    <div class="flow-title">
      <h1><span
        class="mono">${visible(
          request?.method ?? flow.transport ?? flow.kind,
        )}</span> ${placeOf(summary)}<span
        class="muted">${pathOf(summary)}</span></h1>
      <${Outcome} flow=${summary} />
    </div>
    <${Notice} tone=${tone}>
      <p><strong>${asWords(decision.action)}, ${asWords(decision.reason)}</strong>${
        decision.rule !== null && html` <span class="tag mono">${visible(decision.rule)}</span>`
      }</p>
      <p>${visible(decision.detail)}</p>
      ${
        isAskable(summary) &&
        html`<p><${AllowThis} flowId=${flow.id}
        place=${`${request?.method ?? flow.kind} ${placeOf(summary)}${pathOf(summary)}`} /></p>`
      }
    <//>
    ${flow.error !== null && html`<${Notice} tone="warn"><p>${visible(flow.error)}</p><//>`}
    <${Timings} flow=${flow} />
    <${Facts} flow=${flow} />
  </header>`;
}

/** @param {{ flow: FlowRecord }} props */
function Timings({ flow }) {
  const phases = phasesOf(flow);
  const whole = phases.reduce((sum, { ms }) => sum + ms, 0);
  if (whole === 0) return null;
  const said = phases.map(({ name, ms }) => `${name} ${formatDuration(ms)}`).join(", ");
  return html`<div class="timings">
    <div class="timing-bar" role="img" aria-label=${said}>${phases.map(
      ({
        name,
        ms,
      }) => html`<span class=${`t-${name}`} key=${name} title=${`${name} ${formatDuration(ms)}`}
        style=${{ flexGrow: ms / whole }}></span>`,
    )}</div>
    <ul class="timing-keys small muted">${phases.map(
      ({ name, ms }) =>
        html`<li key=${name}><span class=${`t-${name}`}></span>${`${name} ${formatDuration(ms)}`}</li>`,
    )}</ul>
  </div>`;
}

/** Those with an id, which is long. */
const WIDE = new Set(["Call", "Flow"]);

/** @param {number} count */
function pieces(count) {
  return `${formatCount(count)} ${count === 1 ? "piece" : "pieces"}`;
}

/** @param {{ flow: FlowRecord }} props */
function Facts({ flow }) {
  const { server, client, credentials, cost, kind } = flow;
  const sent = flow.sent_count ?? flow.request?.byte_count ?? 0;
  const received = flow.received_count ?? flow.response?.byte_count ?? 0;
  const isLlm = flow.call_id !== null && flow.trial_id !== null;
  const tls = [server.tls_version, server.server_name].filter((each) => each !== null);
  /** @type {[string, unknown][]} */
  const facts = [
    ["At", html`<${Time} at=${flow.started_at} />`],
    ["Took", formatDuration(flow.duration_ms)],
    ["Sent", kind === "packet" ? `${formatCount(sent)} packets, all dropped` : formatBytes(sent)],
    ["Received", kind === "packet" ? null : formatBytes(received)],
    [
      "Cost",
      cost === null
        ? null
        : html`<${Money} nanos=${cost.amount_nanos} currency=${cost.currency} />`,
    ],
    ["Call", isLlm ? html`<a href=${`/trials/${flow.trial_id}/calls`}>${flow.call_id}</a>` : null],
    ["Agent", flow.agent],
    ["Door", `${flow.door}, ${flow.engine}`],
    ["Server", server.address],
    ["TLS", tls.length === 0 ? null : tls.join(" for ")],
    ["Certificate", server.certificate_sha256?.slice(0, 16) ?? null],
    ["HTTP", [client.http_version, server.http_version].filter(Boolean).join(" to ") || null],
    ["Credentials used", credentials.length === 0 ? null : credentials.map(visible).join(", ")],
    ["Redacted", flow.redaction_count === 0 ? null : pieces(flow.redaction_count)],
    ["Flow", html`<span class="mono">${flow.id}</span>`],
  ];
  return html`<dl class="facts">${facts
    .filter(([, value]) => value !== null)
    .map(
      ([name, value]) =>
        html`<div key=${name} class=${WIDE.has(name) ? "wide" : ""}><dt>${name}</dt><dd>${
          typeof value === "string" ? visible(value) : value
        }</dd></div>`,
    )}</dl>`;
}

/** @param {{ detail: FlowDetail, tab: string }} props */
function Contents({ detail: { flow, is_withheld: isWithheld }, tab }) {
  if (tab === "messages") return html`<${Messages} flow=${flow} />`;
  const part = tab === "request" ? flow.request : flow.response;
  if (part === null) return null;
  return html`<div class="card contents" key=${tab}>
      <h2>Body</h2>
      <${BodyView} body=${part.body} isWithheld=${isWithheld} byteCount=${part.byte_count} />
    </div>
    <div class="card contents">
      <h2>Headers</h2>
      <${HeaderList} headers=${part.headers} isWithheld=${isWithheld} />
    </div>`;
}

/**
 * @param {{ headers: readonly (readonly [string, string])[] | null, isWithheld: boolean }} props
 */
function HeaderList({ headers, isWithheld }) {
  if (headers === null) {
    return html`<p class="muted small">${
      isWithheld ? "Headers need the role operator" : "Not kept: their retention is over"
    }</p>`;
  }
  if (headers.length === 0) return html`<p class="muted small">No headers</p>`;
  return html`<dl class="pairs mono">${headers.map(
    ([name, value], index) =>
      html`<div key=${index}><dt>${visible(name)}</dt><dd>${visible(value)}</dd></div>`,
  )}</dl>`;
}

/** @param {{ flow: FlowRecord }} props */
function Messages({ flow }) {
  const startMs = Date.parse(flow.started_at);
  return html`<ol class="messages">${(flow.messages ?? []).map(
    ({ at_ms: atMs, from, body }, index) => html`<li class=${`card message ${from}`} key=${index}>
      <p class="small muted"><strong>${from === "client" ? "→ sent" : "← received"}</strong>
        ${` after ${formatOffset(atMs - startMs)}`}</p>
      <${BodyView} body=${body} isWithheld=${false} byteCount=${body.byte_count} />
    </li>`,
  )}</ol>`;
}
