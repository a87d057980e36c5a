#!/usr/bin/env bash
# Installs the Debian packages that the tests use. Idempotent, and quick when nothing is missing: `make test` starts with it.
#
# Without root it only says what is missing: the tests that need it then skip with their reason, or fail where CI=true.
set -euo pipefail

# package=path of a file that it brings. A file that is there counts, whoever installed it.
wanted=(
	gcc=/usr/bin/gcc                                      # the race detector links with cgo
	libc6-dev=/usr/include/stdlib.h
	prometheus=/usr/bin/prometheus                        # brings promtool too
	prometheus-pushgateway=/usr/bin/prometheus-pushgateway
	prometheus-node-exporter=/usr/bin/prometheus-node-exporter
	nftables=/usr/sbin/nft
	nginx=/usr/sbin/nginx                                 # a proxy that speaks HTTP/1.0 by default
	haproxy=/usr/sbin/haproxy                             # reads the configuration that a page has for it
	iproute2=/usr/bin/ip
	python3-prometheus-client=/usr/lib/python3/dist-packages/prometheus_client/__init__.py
	curl=/usr/bin/curl
	nodejs=/usr/bin/node
	npm=/usr/bin/npm                                      # prom-client comes from its registry, as the lock file has it
	chromium=/usr/bin/chromium                            # looks at the pages; axe-core, which judges them, comes from npm
	procps=/usr/bin/ps
	groff-base=/usr/bin/groff                             # both read man pages, and differ in what they forgive
	mandoc=/usr/bin/mandoc
	zsh=/usr/bin/zsh
	mkdocs=/usr/bin/mkdocs                                # makes the site of the documents
	systemd=/usr/bin/systemd-analyze                      # verifies the units in deploy/; nothing is started
	mmdebstrap=/usr/bin/mmdebstrap                        # makes the Debian that packages are installed in,
	systemd-container=/usr/bin/systemd-nspawn             # and boots it
	rpm=/usr/bin/rpm
	podman=/usr/bin/podman                                # runs the images
	runc=/usr/sbin/runc
)

# Debian starts a daemon when it installs it. These would take the ports 80, 9090, 9091 and 9100 of this machine; haproxy has none by default.
daemons=(nginx haproxy prometheus prometheus-pushgateway prometheus-node-exporter)

missing=()
for want in "${wanted[@]}"; do
	[[ -e ${want#*=} ]] || missing+=("${want%%=*}")
done
if ((${#missing[@]} == 0)); then
	exit 0
fi

if ! command -v apt-get >/dev/null; then
	echo "test packages missing: ${missing[*]} (no apt-get here: install them by hand; the tests that need them are skipped)" >&2
	exit 0
fi
if ((EUID != 0)); then
	echo "test packages missing: ${missing[*]} (run 'sudo make deps'; the tests that need them are skipped)" >&2
	exit 0
fi

# policy-rc.d is Debian's own switch: 101 forbids maintainer scripts to start anything. One that is already there (every
# container image has it) is left alone.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
	trap 'rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 0755 "$policy"
fi

echo "installing test packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
apt_get=(apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
if ! "${apt_get[@]}" update || ! "${apt_get[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null; then
	echo "could not install: ${missing[*]} (the tests that need them are skipped, and fail where CI=true)" >&2
	exit 0
fi

# Nor may they start at the next boot. Only what this run installed: a daemon that was here before belongs to the machine.
for daemon in "${daemons[@]}"; do
	if [[ " ${missing[*]} " == *" $daemon "* ]] && command -v systemctl >/dev/null; then
		systemctl disable "$daemon.service" >/dev/null 2>&1 || echo "could not disable $daemon.service" >&2
	fi
done
