#!/bin/sh
set -e

case "$1" in
configure | abort-upgrade | abort-deconfigure | abort-remove) ;;
*) exit 0 ;;
esac

# Only a mask that removing the package has left.
deb-systemd-helper unmask @PROGRAM@.service >/dev/null || true
# Also of a new installation; not if somebody has disabled it.
if deb-systemd-helper --quiet was-enabled @PROGRAM@.service; then
	deb-systemd-helper enable @PROGRAM@.service >/dev/null || true
else
	deb-systemd-helper update-state @PROGRAM@.service >/dev/null || true
fi
[ -d /run/systemd/system ] || exit 0
systemctl --system daemon-reload >/dev/null || true
# An agent that belongs to no relay yet has nothing to start with.
if [ @PROGRAM@ = relay-agent ] && [ ! -d /var/lib/relay-agent/identity ] && ! systemctl --quiet is-active relay-agent.service; then
	echo "relay-agent: 'relay-agent enroll --data.dir=/var/lib/relay-agent TOKEN' and 'systemctl start relay-agent' make this an agent of a relay"
else
	deb-systemd-invoke restart @PROGRAM@.service >/dev/null || true
fi
