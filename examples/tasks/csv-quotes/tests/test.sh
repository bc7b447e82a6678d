#!/bin/sh
# Runs the hidden tests on the checkout, which is the current folder, and writes the reward.
tests="${TESTS_DIR:-/tests}"
logs="${LOGS_DIR:-/logs/verifier}"
mkdir -p "$logs"
if node --test --test-reporter=tap "$tests/hidden.test.mjs"; then
  echo 1 >"$logs/reward.txt"
else
  echo 0 >"$logs/reward.txt"
fi
