#!/usr/bin/env bash
# Runs the programs of this tree with those of an earlier release, in both directions, and has three relays of that one become those of this tree.
# Where the checkout does not have that release, because it is shallow or no git checkout at all, nothing was checked: that is said, and noted in the
# file that $NOT_CHECKED names.
set -euo pipefail

# The last commit of the release before. Whoever makes a release moves it on.
release=aa7a6a76b6f371af91bf361faa81d6e328030e41

if ! git cat-file -e "$release^{commit}" 2>/dev/null; then
	reason="the release before: this checkout does not have commit ${release:0:12} (make earlier, in one with its history)"
	echo "not checked: $reason" >&2
	[[ -z ${NOT_CHECKED:-} ]] || echo "$reason" >>"$NOT_CHECKED"
	exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir "$work/source"
git archive "$release" | tar -x -C "$work/source"
export CGO_ENABLED=0 # for the tests as well, so that nothing is compiled twice
go build -C "$work/source" -trimpath -buildvcs=false -o "$work/" ./cmd/relay-server ./cmd/relay-agent
EARLIER_PROGRAMS=$work go test -tags=earlier -count=1 -timeout=5m -run='^(TestEarlierRelease|TestRollingUpgrade)$' ./internal/e2e/durability ./internal/e2e/cluster
