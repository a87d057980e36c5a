#!/usr/bin/env bash
# Runs every fuzz target of the module for FUZZTIME each: go test takes only one target at a time. What it finds is written
# to the package's testdata/fuzz and belongs into the commit that mends it.
set -euo pipefail

: "${FUZZTIME:=10s}"

# file:func FuzzName(
targets=$(grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*\(' . | sort || true)
if [[ -z $targets ]]; then
	echo "no fuzz target found"
	exit 0
fi

failed=()
while IFS=: read -r file func; do
	name=${func#func } name=${name%(}
	echo "== $(dirname "$file") $name"
	go test -run='^$' -fuzz="^$name\$" -fuzztime="$FUZZTIME" "$(dirname "$file")" || failed+=("$(dirname "$file") $name")
done <<<"$targets"

if ((${#failed[@]} > 0)); then
	printf 'fuzz target failed: %s\n' "${failed[@]}" >&2
	exit 1
fi
