#!/bin/sh
# Makes the secrets that docker-compose.gpu.yml mounts, in ./secrets: those that are there stay.
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
# Their images read them as these users; as nobody but root or that user can one give them away.
chown 1000 "$folder/elastic_password" "$folder/kibana_password" 2>/dev/null || :
chown 1000 "$folder/SUPERSET_SECRET_KEY" "$folder/superset_password" 2>/dev/null || :
chown 472 "$folder/grafana_password" 2>/dev/null || :
[ -f "$folder/AUTOCODE_JOIN_TOKEN" ] || : >"$folder/AUTOCODE_JOIN_TOKEN"
