#!/usr/bin/env bash
# Installs what is released, as its users do: makes two releases, one the upgrade of the other, and runs the tests of scripts/release that
# boot a fresh Debian, run containers, and let rpm install. Where this machine cannot do that, nothing was checked: that is said, and noted in the file that
# $NOT_CHECKED names. For whoever does this often: DEBIAN_ROOT is an archive of a fresh Debian, as
# `mmdebstrap --variant=minbase --include=systemd,systemd-sysv,dbus bookworm root.tar` makes one.
set -euo pipefail

# What no machine of this kind can check, whatever is installed on it. .ci/run says it in its last lines.
trap 'sed "s/^/not checked here: /" scripts/release/unchecked.txt' EXIT

if ((EUID != 0)); then
	reason="the packages are not installed: that needs root (sudo make packages-test)"
	echo "not checked: $reason" >&2
	[[ -z ${NOT_CHECKED:-} ]] || echo "$reason" >>"$NOT_CHECKED"
	exit 0
fi
scripts/install-test-deps.sh
work=$(mktemp -d)
trap 'rm -rf "$work"; sed "s/^/not checked here: /" scripts/release/unchecked.txt' EXIT
chmod 755 "$work"
# release FOLDER VERSION PLATFORMS makes one.
release() {
	make --silent release VERSION="$2" PLATFORMS="$3" >/dev/null
	mv bin/release "$work/$1"
}
release old v0.0.1 "linux/$(go env GOARCH)"
release new v0.0.2 "linux/amd64 linux/arm64" # an image is for both, and a machine has to find its own in it
OLD_RELEASE=$work/old NEW_RELEASE=$work/new NEW_VERSION=v0.0.2 \
	go test -C scripts/release -tags=machines -count=1 -timeout=15m -v -run='^(TestDebian|TestRPM|TestContainers)$' .
