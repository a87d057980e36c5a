#!/usr/bin/env bash
# Fails when a function cannot be reached from any program or test. What only a test calls counts as used: the address that
# a composition root tells is one such thing.
set -euo pipefail
shopt -s inherit_errexit # a command substitution fails with what fails in it

dead=$(go tool deadcode -test ./...)
if [[ -n $dead ]]; then
	sort -u <<<"$dead"
	echo "dead code: remove it" >&2
	exit 1
fi
