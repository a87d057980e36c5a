#!/bin/sh
set -e

case "$1" in
remove)
	if [ -x /usr/bin/deb-systemd-helper ]; then
		deb-systemd-helper mask @PROGRAM@.service >/dev/null || true
	fi
	;;
purge)
	# What it keeps, its keys among it, and what somebody has put beside its configuration.
	rm -rf @STATE@ /etc/@PROGRAM@
	if [ -x /usr/bin/deb-systemd-helper ]; then
		deb-systemd-helper purge @PROGRAM@.service >/dev/null || true
		deb-systemd-helper unmask @PROGRAM@.service >/dev/null || true
	fi
	;;
esac
if [ -d /run/systemd/system ]; then
	systemctl --system daemon-reload >/dev/null || true
fi
