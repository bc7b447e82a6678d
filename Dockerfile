# One image for all of our programs: orchestrator, gateway, egress, worker host, metrics relay. The
# command says which (docker-compose.gpu.yml). It was never built where it was written: there is no
# Docker engine there; what it runs is what CI runs on Debian.
FROM node:24.21.0-trixie-slim

# What an allocation needs (worker-agent/): a network and a view of the files of its own, git, and
# Python for tasks; and what mitmproxy 12 needs, Python 3.12 or later.
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
    bubblewrap ca-certificates git iproute2 nftables python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/autocode

COPY tools/engines/mitmproxy/requirements-12.txt /tmp/requirements.txt
RUN python3 -m venv /opt/mitmproxy \
 && /opt/mitmproxy/bin/pip install --no-cache-dir --require-hashes --no-deps -r /tmp/requirements.txt

COPY package.json package-lock.json ./
RUN npm ci --omit=dev --no-audit --no-fund

COPY . .

ENV AUTOCODE_HOME=/var/lib/autocode \
    AUTOCODE_MITMDUMP=/opt/mitmproxy/bin/mitmdump \
    PATH=/opt/autocode/node_modules/.bin:$PATH
VOLUME /var/lib/autocode

ENTRYPOINT ["/opt/autocode/deploy/compose/with-secrets.sh"]
CMD ["node", "orchestrator/main.ts"]
