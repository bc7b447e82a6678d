#!/bin/sh
# Makes every trust store of this machine believe the certificates in
# /usr/local/share/ca-certificates/autocode-*.crt, and gives the proxy to what reads no environment.
# May be run again: it leaves what is right as it is.
set -eu

# The system's: OpenSSL, GnuTLS, Go, curl, git, apt; the Java hook of ca-certificates-java with it.
update-ca-certificates

# NSS (Firefox, Chromium): one shared store, and the one that new users get.
if command -v certutil >/dev/null; then
  for store in /etc/pki/nssdb /etc/skel/.pki/nssdb; do
    mkdir -p "$store"
    [ -e "$store/cert9.db" ] || certutil -N -d "sql:$store" --empty-password
    for certificate in /usr/local/share/ca-certificates/autocode-*.crt; do
      certutil -A -d "sql:$store" -n "$(basename "$certificate" .crt)" -t C,, -i "$certificate"
    done
    chmod -R a+rX "$store"
  done
fi

# A JDK with a store of its own, which Debian's hook does not know.
for keytool in /opt/*/bin/keytool /usr/lib/jvm/*/bin/keytool; do
  store=$(dirname "$(dirname "$keytool")")/lib/security/cacerts
  [ -x "$keytool" ] && [ -f "$store" ] && [ ! -L "$store" ] || continue
  for certificate in /usr/local/share/ca-certificates/autocode-*.crt; do
    alias=$(basename "$certificate" .crt)
    "$keytool" -list -keystore "$store" -storepass changeit -alias "$alias" >/dev/null 2>&1 ||
      "$keytool" -importcert -noprompt -keystore "$store" -storepass changeit \
        -alias "$alias" -file "$certificate"
  done
done

# apt and Java read no proxy of the environment.
printf 'Acquire::%s::Proxy "%s";\n' http http://proxy.lab.example:3128 https http://proxy.lab.example:3128 \
  >/etc/apt/apt.conf.d/90autocode-proxy
for properties in /etc/java-*-openjdk/net.properties; do
  [ -f "$properties" ] || continue
  sed -i '/^# autocode:/,$d' "$properties"
  {
    echo '# autocode: the proxy that this machine must use'
    for protocol in http https; do
      printf '%s.proxyHost=%s\n' "$protocol" proxy.lab.example
      printf '%s.proxyPort=%s\n' "$protocol" 3128
    done
    printf 'http.nonProxyHosts=%s\n' 'localhost|10.20.0.0/24'
  } >>"$properties"
done
