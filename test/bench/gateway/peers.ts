/** The peers, each as its own documentation says to run it, all before the same upstream. */
import { access, mkdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { execPath } from "node:process";
import { freePort } from "../../support/free-port.ts";
import { type Measured, startMeasured } from "./processes.ts";

const BENCH = resolve(import.meta.dirname, "../../../.engines/bench");

export interface PeerOptions {
  upstreamPort: number;
  /** A folder for its configuration. */
  folder: string;
  cpu: number;
}

export interface Peer {
  name: string;
  /** What a request to it carries beside the body. */
  headers(upstreamPort: number): Record<string, string>;
  /** The Authorization header; null: the bench's own key, ignored. */
  key: string | null;
  /** @throws Error when it is not installed or does not start: told as absent. */
  start(options: PeerOptions): Promise<Measured>;
  /** What it cannot do, for the table. */
  note: string;
}

const nginx: Peer = {
  name: "nginx",
  note: "proxy_pass, 1 worker, keep-alive upstream",
  headers: () => ({}),
  key: null,
  async start({ upstreamPort, folder, cpu }) {
    const port = await freePort();
    const config = `
      worker_processes 1; daemon off; pid ${folder}/nginx.pid; error_log stderr crit;
      events { worker_connections 8192; }
      http {
        access_log off;
        client_body_temp_path ${folder}/body; proxy_temp_path ${folder}/proxy;
        fastcgi_temp_path ${folder}/f; uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;
        client_max_body_size 200m; client_body_buffer_size 1m;
        keepalive_requests 1000000000;
        upstream model {
          server 127.0.0.1:${upstreamPort};
          keepalive 1024; keepalive_requests 1000000000;
        }
        server {
          listen 127.0.0.1:${port} backlog=4096;
          location / {
            proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_buffering off;
          }
        }
      }`;
    await mkdir(folder, { recursive: true });
    const file = join(folder, "nginx.conf");
    await writeFile(file, config);
    return startMeasured("nginx", { args: ["-p", folder, "-c", file], cpu, port });
  },
};

const passThrough: Peer = {
  name: "undici",
  note: "bare Node pass-through: no key, no budget, no record",
  headers: () => ({}),
  key: null,
  start: ({ upstreamPort, cpu }) =>
    startMeasured(execPath, {
      args: [join(import.meta.dirname, "pass-through.ts"), String(upstreamPort)],
      cpu,
      port: null,
    }),
};

const portkey: Peer = {
  name: "portkey",
  note: "1.15.2, no budgets; its streams answer 500",
  headers: (upstreamPort) => ({
    "x-portkey-provider": "openai",
    "x-portkey-custom-host": `http://127.0.0.1:${upstreamPort}/v1`,
  }),
  key: null,
  async start({ cpu }) {
    const file = join(BENCH, "portkey/node_modules/@portkey-ai/gateway/build/start-server.js");
    await access(file);
    const port = await freePort();
    const env = { NODE_ENV: "production", TRUSTED_CUSTOM_HOSTS: "127.0.0.1,localhost" };
    const args = [file, "--headless", `--port=${port}`];
    return startMeasured(execPath, { args, cpu, port, env });
  },
};

const LITELLM_KEY = "sk-bench";

const litellm: Peer = {
  name: "litellm",
  note: "1.106.2, 1 worker, master key, no database (its engine cannot be fetched): no budgets",
  headers: () => ({}),
  key: LITELLM_KEY,
  async start({ upstreamPort, folder, cpu }) {
    const file = join(BENCH, "litellm/bin/litellm");
    await access(file);
    const port = await freePort();
    await mkdir(folder, { recursive: true });
    const config = join(folder, "litellm.yaml");
    await writeFile(
      config,
      `model_list:
  - model_name: normal
    litellm_params:
      model: openai/m
      api_base: http://127.0.0.1:${upstreamPort}/v1
      api_key: none
general_settings:
  master_key: ${LITELLM_KEY}
litellm_settings:
  telemetry: false
`,
    );
    const args = ["--config", config, "--host", "127.0.0.1", "--port", String(port)];
    const env = { LITELLM_LOG: "ERROR", LITELLM_TELEMETRY: "False", LITELLM_MODE: "PRODUCTION" };
    return startMeasured(file, { args, cpu, port, env, startMs: 120_000 });
  },
};

export const PEERS: readonly Peer[] = [nginx, passThrough, portkey, litellm];
