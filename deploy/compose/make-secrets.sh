#!/bin/sh
# Makes the secrets that docker-compose.gpu.yml mounts, in ./secrets: those that are there stay.
# Ends with 1 where a container could not read its own: run it as root, as rootful Docker is.
# JOIN_TOKEN is made by the orchestrator (`autocode worker token`) and put there by you.
set -eu
umask 077
folder=${1:-secrets}
mkdir -p "$folder"

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
make() { [ -s "$folder/$1" ] || printf '%s' "$2" >"$folder/$1"; }

make postgres_password "$(random)"
password=$(cat "$folder/postgres_password")
make DATABASE_URL "postgres://autocode:$password@postgres:5432/autocode"
make AUTOCODE_SECRETS_PASSPHRASE "$(random)"
make elastic_password "$(random)"
make ELASTICSEARCH_PASSWORD "$(cat "$folder/elastic_password")"
make kibana_password "$(random)"
make grafana_password "$(random)"
make SUPERSET_SECRET_KEY "$(random)"
make superset_password "$(random)"
[ -f "$folder/AUTOCODE_JOIN_TOKEN" ] || : >"$folder/AUTOCODE_JOIN_TOKEN"

# Their images read them as these users; as nobody but root or that user can one give them away.
status=0
give() {
  owner=$1
  shift
  for name; do
    # shellcheck disable=SC2012 # of one file whose name is ours; stat is not POSIX
    [ "$(ls -ln "$folder/$name" | awk '{ print $3 }')" = "$owner" ] && continue
    chown "$owner" "$folder/$name" 2>/dev/null && continue
    echo "$folder/$name: the container's user $owner cannot read it, and only root can give it" \
      "away: run this as root, or: sudo chown $owner $folder/$name" >&2
    status=1
  done
}
give 1000 elastic_password kibana_password SUPERSET_SECRET_KEY superset_password
give 472 grafana_password
exit "$status"
