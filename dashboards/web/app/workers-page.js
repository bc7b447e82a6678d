/** `/workers`: the hosts that run allocations, how they are, and how another one joins. */
import { html, useEffect, useState } from "/vendor/htm-preact.js";
import { getJson, newIdempotencyKey, postJson } from "./api.js";
import { formatAgo, formatBytes, formatCount, formatDuration } from "./format.js";
import { useLoad } from "./loading.js";
import { Empty, Failure, Notice, Skeleton, Time } from "./parts.js";
import { serverNow } from "./server-clock.js";

/** @typedef {import("../../../orchestrator/contract/workers.ts").Worker} Worker */
/** @typedef {import("../../../orchestrator/contract/workers.ts").WorkerList} WorkerList */
/** @typedef {import("../../../orchestrator/contract/workers.ts").WorkerDetail} WorkerDetail */
/** @typedef {import("../../../orchestrator/contract/workers.ts").JoinToken} JoinToken */

const READ_EVERY_MS = 5_000;
const DAY_MS = 86_400_000;
const TONES = { ready: "good", draining: "warn", down: "bad" };

export function WorkersPage() {
  const list = useLoad((signal) => getJson("/workers", signal), []);
  useEffect(() => {
    const timer = setInterval(() => {
      if (!document.hidden) void list.reload();
    }, READ_EVERY_MS);
    return () => clearInterval(timer);
  }, [list.reload]);
  return html`<main class="page">
    <div class="page-head"><h1>Workers</h1></div>
    ${list.error && html`<${Failure} error=${list.error} onRetry=${list.reload} />`}
    ${list.data === null && list.error === null && html`<${Skeleton} label="Loading workers" />`}
    ${list.data !== null && html`<${Fleet} list=${list.data} onChange=${list.reload} />`}
  </main>`;
}

/** @param {{ list: WorkerList, onChange: () => void }} props */
function Fleet({ list, onChange }) {
  const { workers } = list;
  const total = (/** @type {(worker: Worker) => number} */ figure) =>
    workers.reduce((sum, worker) => sum + figure(worker), 0);
  const ready = workers.filter(({ status }) => status === "ready");
  return html`
    <dl class="figures worker-figures">
      <div><dt>Workers</dt><dd>${ready.length}<span class="of"> of ${workers.length} ready</span>
        </dd></div>
      <div><dt>Slots</dt><dd>${formatCount(total(({ used }) => used))}<span
        class="of"> of ${formatCount(total(({ slots }) => slots))} used</span></dd></div>
      <div><dt>Waiting</dt><dd>${formatCount(list.pending)}<span
        class="of"> ${list.pending === 1 ? "allocation" : "allocations"}</span></dd></div>
      <${Availability} list=${list} />
    </dl>
    ${
      workers.length === 0
        ? html`<${Empty} title="No worker has joined yet"><p>Trials wait until one has.</p><//>`
        : html`<ul class="card workers">
          ${workers.map(
            (worker) => html`<${WorkerRow} key=${worker.id} worker=${worker}
            onChange=${onChange} />`,
          )}
        </ul>`
    }
    ${list.can_join && html`<${JoinForm} />`}
  `;
}

/** @param {{ list: WorkerList }} props */
function Availability({ list }) {
  const { availability, availability_target: target, window_ms: windowMs } = list;
  if (availability === null) return null;
  const isMet = availability >= target;
  return html`<div><dt>Available, ${Math.round(windowMs / DAY_MS)} days</dt>
    <dd class=${isMet ? "bar-met" : "bar-missed"}>${percent(availability)}<span
      class="of"> ${isMet ? "meets" : "misses"} ${percent(target)}</span></dd></div>`;
}

/** @param {{ worker: Worker, onChange: () => void }} props */
function WorkerRow({ worker, onChange }) {
  const { name, pool, status, slots, used, availability, outage_count: outages } = worker;
  const [isOpen, setOpen] = useState(false);
  const fill = slots === 0 ? 0 : Math.min(100, (100 * used) / slots);
  return html`<li class="worker">
    <details open=${isOpen} onToggle=${(/** @type {{ target: HTMLDetailsElement }} */ event) =>
      setOpen(event.target.open)}>
      <summary>
        <span class="worker-name">${name}</span>
        <span class=${`state ${TONES[status]}`}><span class="dot"></span>${status}</span>
        <span class="tag">${pool}</span>
        <span class="worker-slots"><span class="bar thin" role="img"
          aria-label=${`${used} of ${slots} slots used`}><span class="spent"
          style=${{ width: `${fill}%` }}></span></span><span
          class="num">${used}/${slots}</span></span>
        <span class="worker-available num">
          ${availability === null ? "" : percent(availability)}
          ${outages !== null && outages > 0 && html`<span class="muted"> ${outages} out</span>`}
        </span>
      </summary>
      ${isOpen && html`<${WorkerFacts} worker=${worker} onChange=${onChange} />`}
    </details>
  </li>`;
}

/** @param {{ worker: Worker, onChange: () => void }} props */
function WorkerFacts({ worker, onChange }) {
  const path = `/workers/${encodeURIComponent(worker.id)}`;
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  const detail = useLoad((signal) => getJson(path, signal), [path]);
  const drain = async (/** @type {boolean} */ isDraining) => {
    setError(null);
    try {
      await postJson(`${path}/drain`, { is_draining: isDraining }, newIdempotencyKey());
      onChange();
    } catch (caught) {
      setError(/** @type {Error} */ (caught));
    }
  };
  const { capabilities, heartbeat_at: heard } = worker;
  return html`<div class="worker-facts">
    <dl class="facts">
      ${capabilities !== null && html`<${Has} capabilities=${capabilities} />`}
      ${
        heard !== null &&
        html`<div><dt>Heard</dt><dd><${Time} at=${heard}
        text=${formatAgo(heard, serverNow())} /></dd></div>`
      }
      <div><dt>Id</dt><dd><code>${worker.id}</code></dd></div>
    </dl>
    ${detail.error && html`<${Failure} error=${detail.error} onRetry=${detail.reload} />`}
    ${detail.data !== null && html`<${Records} detail=${detail.data} />`}
    ${error && html`<${Failure} error=${error} />`}
    ${
      worker.status === "draining"
        ? html`<button type="button" class="button" onClick=${() => drain(false)}>Give it work
          again</button>`
        : html`<button type="button" class="button" onClick=${() => drain(true)}>Drain</button>`
    }
  </div>`;
}

/** @param {{ capabilities: NonNullable<Worker["capabilities"]> }} props */
function Has({ capabilities }) {
  const {
    cpus,
    memory_bytes: memory,
    disk_bytes: disk,
    gpus,
    vm_template: template,
  } = capabilities;
  const machine = [
    `${formatCount(cpus)} CPUs (${capabilities.arch})`,
    `${formatBytes(memory)} memory`,
    ...(disk === undefined ? [] : [`${formatBytes(disk)} disk`]),
    ...gpus.map(({ name, memory_bytes: bytes }) => `${name}, ${formatBytes(bytes)}`),
  ];
  return html`
    <div><dt>Has</dt><dd>${machine.join(" · ")}</dd></div>
    <div><dt>Agents</dt><dd>${capabilities.agents.join(", ") || "none installed yet"}</dd></div>
    <div><dt>Template</dt><dd>${template ?? "none: a bare host"}</dd></div>
  `;
}

/** @param {{ detail: WorkerDetail }} props */
function Records({ detail }) {
  const { outages, allocations } = detail;
  return html`
    ${
      outages.length > 0 &&
      html`<h3>Silent</h3><ul class="plain">
      ${outages.map(
        ({ started_at: from, ended_at: to }) =>
          html`<li key=${from}><${Time} at=${from} />, ${
            to === null
              ? html`<strong>still</strong>`
              : `for ${formatDuration(Date.parse(to) - Date.parse(from))}`
          }</li>`,
      )}
    </ul>`
    }
    ${
      allocations.length > 0 &&
      html`<h3>Allocations</h3><ul class="plain">
      ${allocations.map(
        ({ allocation_id: id, trial_id: trial, state }) => html`<li key=${id}>
          ${
            trial === null
              ? html`<code>${id}</code>`
              : html`<a href=${`/trials/${trial}`}><code>${trial}</code></a>`
          } ${state}</li>`,
      )}
    </ul>`
    }
  `;
}

/** A token for another host, and the command that joins with it. */
function JoinForm() {
  const [pool, setPool] = useState("default");
  const [made, setMade] = useState(/** @type {JoinToken | null} */ (null));
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setError(null);
    try {
      const wanted = { pool: pool.trim(), uses: 1, ttl_ms: 3_600_000 };
      setMade(await postJson("/workers/tokens", wanted, newIdempotencyKey()));
    } catch (caught) {
      setError(/** @type {Error} */ (caught));
    }
  };
  const command =
    made === null
      ? ""
      : `AUTOCODE_API_URL=${location.origin} AUTOCODE_JOIN_TOKEN=${made.token} ` +
        "node worker-agent/host/main.ts";
  return html`<section class="card join" aria-label="Join another host">
    <h2>Join another host</h2>
    <form class="join-form" onSubmit=${submit}>
      <label class="field"><span>Pool</span>
        <input name="pool" autocomplete="off" value=${pool}
          onInput=${(/** @type {{ target: HTMLInputElement }} */ { target }) =>
            setPool(target.value)} /></label>
      <button type="submit" class="button primary">Make a token</button>
    </form>
    ${error && html`<${Failure} error=${error} />`}
    ${
      made !== null &&
      html`<p class="muted">Run this on the host, in a checkout of this version. The token is good
        for one host, for an hour, and shown only now.</p>
      <pre class="command">${command}</pre>
      <button type="button" class="button" onClick=${() =>
        void navigator.clipboard?.writeText(command)}>Copy</button>
      ${
        /^(localhost|127\.|\[::1\])/.test(location.hostname) &&
        html`<${Notice} tone="info">This address is this machine's own: on another host, write one
          that it can reach (AUTOCODE_API_URL).<//>`
      }`
    }
  </section>`;
}

/** Rounded down: what was missed is not shown as met. @param {number} ratio */
function percent(ratio) {
  return `${(Math.floor(ratio * 10_000) / 100).toFixed(2)} %`;
}
