#!/usr/bin/env bash
# Runs every fuzz target of the module for FUZZTIME each. What it finds is written to the package's testdata/fuzz and belongs into
# the commit that mends it. The tests of each package are built once: go test would link them anew for each target.
set -euo pipefail
shopt -s inherit_errexit # a command substitution fails with what fails in it

: "${FUZZTIME:=10s}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
found=$(go env GOCACHE)/fuzz # where go test -fuzz keeps what is worth trying

# file:func FuzzName(
targets=$(grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*\(' cmd internal certs scripts | sort)
count=0 package='' failed=()
while IFS=: read -r file func; do
	name=${func#func } name=${name%(}
	if [[ $package != $(dirname "$file") ]]; then
		package=$(dirname "$file")
		path=$(go list "./$package")
		go test -c -fuzz=. -ldflags="-s -w" -o "$work/test" "./$package"
	fi
	echo "== $package $name"
	count=$((count + 1))
	# Without a bound of its own what is worth keeping is made small for a minute, in which nothing new is tried.
	if (cd "$package" && "$work/test" -test.run='^$' -test.fuzz="^$name\$" -test.fuzztime="$FUZZTIME" -test.fuzzminimizetime=1s \
		-test.fuzzcachedir="$found/$path" >"$work/log" 2>&1); then
		continue
	fi
	# A worker that is slow to stop at the end of the time is reported as a failure by itself (golang/go#75804). What is found has more to
	# say, and names the file that it was written to.
	if grep -q 'context deadline exceeded' "$work/log" && ! grep -q 'Failing input' "$work/log"; then
		echo "$name: a worker was slow to stop"
		continue
	fi
	cat "$work/log"
	failed+=("$package $name")
done <<<"$targets"

if ((${#failed[@]} > 0)); then
	printf 'fuzz target failed: %s\n' "${failed[@]}" >&2
	exit 1
fi
echo "$count fuzz targets, $FUZZTIME each: nothing found"
