#!/bin/sh
# Starts a program with the secrets of its container in its environment: each file of /run/secrets
# whose name is a variable's. So no secret is in the Compose file, in an argument or in what
# `docker inspect` shows.
set -eu
for file in "${SECRETS_DIR:-/run/secrets}"/[A-Z]*; do
  [ -f "$file" ] || continue
  name=${file##*/}
  case $name in
  *[!A-Z0-9_]*) continue ;;
  esac
  value=$(cat "$file")
  export "$name=$value"
done
unset file name value
exec "$@"
