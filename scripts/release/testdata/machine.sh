#!/bin/bash
# What becomes of a fresh Debian whose administrator installs relay and agent, uses, upgrades, removes and purges them. It runs in that machine, as root. The
# folder that it is in has the packages of this build (new/) and those of the one before (old/). The last thing that is printed is what went wrong.
set -Eeuo pipefail
cd "$(dirname "$0")"
export DEBIAN_FRONTEND=noninteractive RELAY_AGENT_ADDRESS=unix:/run/relay-agent/agent.sock
trap 'echo "FAILED in line $LINENO: $BASH_COMMAND"; journalctl --no-pager -u relay-server -u relay-agent -n 60' ERR

step() { echo "== $*"; }

# eventually COMMAND… repeats it until it succeeds, for a minute at most.
eventually() {
	local end=$((SECONDS + 60))
	until "$@" >/tmp/said 2>&1; do
		((SECONDS < end)) || { echo "never: $*" && cat /tmp/said && return 1; }
		sleep 0.2
	done
}
install_packages() { apt-get install --quiet --yes --no-install-recommends --option=Dpkg::Use-Pty=0 "$@" </dev/null; }
is() { [[ $1 == "$2" ]] || { echo "is '$1', want '$2'" && return 1; }; }
# shows QUERY VALUE: what Prometheus says to a query, a number.
shows() { promtool query instant http://127.0.0.1:9090 "$1" | grep -q " => $2 @"; }

# What documents say is done here as they say it: pages/ has their commands, which are those of somebody who is not root.
export HOME=/root
sudo() {
	[[ $1 != -u ]] || { runuser -u "$2" -- "${@:3}" && return; }
	"$@"
}
# sudoedit does what the page's comment says: it adds the flags in $add.
sudoedit() { sed -i "s#^\(RELAY_[A-Z]*_FLAGS=\"\)#\1$add #" "$1"; }
pages=$PWD/pages
ready() { RELAY_SERVER_ADDRESS=$1 SSL_CERT_FILE=$pages/web.crt relay-server check-ready; }

step "the relay is installed, and runs"
install_packages ./old/relay-server_*.deb
eventually relay-server check-ready
is "$(systemctl is-enabled relay-server)" enabled
is "$(stat --format=%a /var/lib/private/pushrelay)" 700

step "the relay is configured: a file of rules, and another name"
echo 'push_rules: [{match: ["{job=\"backup\"}"], every: 24h}]' >/etc/relay-server/relay.yml
echo 'RELAY_SERVER_FLAGS="--config.file=/etc/relay-server/relay.yml --grpc.tls.server-name=localhost"' >/etc/relay-server/relay-server.env
systemctl restart relay-server
eventually relay-server check-ready

step "the agent is installed, and does not run before it belongs to a relay"
install_packages ./old/relay-agent_*.deb | tee /tmp/said
grep -q "relay-agent enroll" /tmp/said
is "$(systemctl is-enabled relay-agent)" enabled
is "$(systemctl is-active relay-agent || true)" inactive
is "$(stat --format='%a %U %G' /etc/relay-agent /etc/relay-agent/relay-agent.env /var/lib/relay-agent)" \
	$'750 root relay-agent\n640 root relay-agent\n700 relay-agent relay-agent'
sed -i 's/127.0.0.1:9091/127.0.0.1:9092/' /etc/relay-agent/relay-agent.env # the relay has this one, on the same machine
sed -i 's/localhost:9091/localhost:9092/' /etc/relay-agent/agent.yml

step "three lines: enrolled, started, up"
token=$(relay-server --data.dir=/var/lib/pushrelay agents token site-a --relay.address=localhost:9443)
relay-agent enroll --data.dir=/var/lib/relay-agent "$token"
systemctl start relay-agent
eventually relay-agent status
is "$(systemctl show --property=User relay-agent)" User=relay-agent
prometheus --config.file=prometheus.yml --storage.tsdb.path=/tmp/prometheus --web.listen-address=127.0.0.1:9090 --log.level=error &
eventually shows 'up{agent="site-a",job="relay-agent"}' 1

step "a push"
echo 'backup_bytes 48211' | relay-agent push --job=backup
eventually shows 'backup_bytes{agent="site-a"}' 48211

step "upgraded: what was edited stays, and so does what they keep"
relays=$(systemctl show --property=MainPID relay-server) agents=$(systemctl show --property=MainPID relay-agent)
install_packages ./new/relay-server_*.deb ./new/relay-agent_*.deb
is "$(relay-server --version 2>&1 | sed -n 's/.*, version \([^ ]*\).*/\1/p')" "$NEW_VERSION"
[[ $(systemctl show --property=MainPID relay-server) != "$relays" && $(systemctl show --property=MainPID relay-agent) != "$agents" ]]
eventually relay-server check-ready
eventually relay-agent status
grep -q 127.0.0.1:9092 /etc/relay-agent/relay-agent.env
grep -q relay.yml /etc/relay-server/relay-server.env
eventually shows 'push_up{agent="site-a",job="backup"}' 1
eventually shows "relay_agent_build_info{agent=\"site-a\",version=\"$NEW_VERSION\"}" 1
eventually shows 'backup_bytes{agent="site-a"}' 48211

step "removed: their data and what was edited stay"
apt-get remove --quiet --yes relay-server relay-agent
[[ ! -e /usr/bin/relay-server && ! -e /usr/bin/relay-agent ]]
is "$(systemctl is-active relay-agent || true)" inactive
is "$(systemctl is-active relay-server || true)" inactive
[[ -d /var/lib/private/pushrelay/authority && -d /var/lib/relay-agent/identity && -e /etc/relay-agent/relay-agent.env ]]

step "installed again: the agent is still one"
install_packages ./new/relay-server_*.deb ./new/relay-agent_*.deb
eventually relay-agent status
eventually shows 'backup_bytes{agent="site-a"}' 48211

step "a member of its group pushes on the agent's socket"
usermod -aG relay-agent backup
echo 'rows 3' | runuser -u backup -- relay-agent push --job=import
eventually shows 'rows{agent="site-a"}' 3

step "TLS and a password: pages/web.sh"
cd "$pages"
add=$(sed -n 's/^sudoedit .*# add \(--[^ ]*\).*/\1/p' web.sh)
. ./web.sh
eventually ready https://prometheus:secret@localhost:9091
[[ $(ready https://localhost:9091 2>&1 || true) == *401* ]]
is "$(stat --format='%a %U' /etc/relay-server/web.key)" "600 root"
eventually relay-agent status
rm /etc/systemd/system/relay-server.service.d/web.conf
sed -i "s#$add ##" /etc/relay-server/relay-server.env
systemctl daemon-reload

step "certificates that are given by files: pages/grpc.sh, pages/keys.sh"
relay-server --data.dir=/var/lib/pushrelay relay-certificate --server-name=localhost --out="$HOME/relay-2"
cd "$HOME/relay-2"
flags() { echo "--grpc.tls.cert-file=$1/relay.crt --grpc.tls.key-file=$2/relay.key --grpc.tls.client-ca-file=$1/ca.crt"; }
add=$(flags /run/credentials/relay-server.service /run/credentials/relay-server.service)
. "$pages/grpc.sh"
eventually relay-server check-ready
eventually relay-agent status
rm /etc/systemd/system/relay-server.service.d/grpc.conf
sed -i "s#$add ##" /etc/relay-server/relay-server.env
add=$(flags /etc/relay-server /etc/relay-server)
sudoedit /etc/relay-server/relay-server.env
chmod 0644 /etc/relay-server/relay.crt /etc/relay-server/ca.crt
. "$pages/keys.sh"
eventually relay-server check-ready
eventually relay-agent status
is "$(stat --format='%a %U %G' /etc/relay-server/relay.key)" "640 root relay-keys"
rm -r /etc/systemd/system/relay-server.service.d
sed -i "s#$add ##" /etc/relay-server/relay-server.env
systemctl daemon-reload
systemctl restart relay-server
eventually relay-agent status

step "a port below 1024"
mkdir /etc/systemd/system/relay-server.service.d
printf '[Service]\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\nAmbientCapabilities=CAP_NET_BIND_SERVICE\nPrivateUsers=no\n' >/etc/systemd/system/relay-server.service.d/port.conf
add=--web.listen-address=:443
sudoedit /etc/relay-server/relay-server.env
systemctl daemon-reload
systemctl restart relay-server
eventually ready http://localhost:443
rm -r /etc/systemd/system/relay-server.service.d
sed -i "s#$add ##" /etc/relay-server/relay-server.env
systemctl daemon-reload
systemctl restart relay-server
eventually relay-agent status

step "backup and restore, as their page says"
cd /root
. "$pages/backup.sh"
. "$pages/backup-authority.sh"
systemctl stop relay-agent
. "$pages/restore.sh"
eventually relay-server check-ready
eventually shows 'backup_bytes{agent="site-a"}' 48211
# As on another machine: the relay has made an authority of its own.
systemctl stop relay-server
rm -r /var/lib/pushrelay/authority /var/lib/pushrelay/authority.made /var/lib/pushrelay/ledger.*
systemctl start relay-server
eventually relay-server check-ready
. "$pages/restore-authority.sh"
systemctl start relay-agent
eventually relay-agent status
rm /var/backups/pushrelay.store
cd /srv/test

step "disabled by its administrator, and upgraded: still disabled"
systemctl disable --now relay-agent
install_packages --reinstall ./new/relay-agent_*.deb
is "$(systemctl is-enabled relay-agent || true)" disabled
is "$(systemctl is-active relay-agent || true)" inactive

step "purged: nothing of them is left but the agent's user"
apt-get purge --quiet --yes relay-server relay-agent
left=$(find /etc /usr /var -xdev \( -name '*relay-server*' -o -name '*relay-agent*' -o -name '*pushrelay*' \) ! -path '/var/log/*' ! -path '/var/cache/*')
is "$left" ""
getent passwd relay-agent

step "by hand, from the archive: pages/relay-by-hand.sh, pages/agent-by-hand.sh"
userdel relay-agent
groupdel relay-agent # it has a member
hash -r
tar -C /tmp -xf new/pushrelay-*.tar.gz
cd /tmp/pushrelay-*
add=--grpc.tls.server-name=localhost
. "$pages/relay-by-hand.sh"
eventually relay-server check-ready
sed -i 's/127.0.0.1:9091/127.0.0.1:9092/' deploy/relay-agent.env
sed -i 's/localhost:9091/localhost:9092/' deploy/agent.yml
relay-server --data.dir=/var/lib/pushrelay agents token site-b --relay.address=localhost:9443 >/tmp/token
. "$pages/agent-by-hand.sh" </tmp/token
eventually relay-agent status
eventually shows 'up{agent="site-b",job="relay-agent"}' 1
systemctl disable --now relay-server relay-agent
rm -r /etc/systemd/system/relay-*.service /etc/relay-server /etc/relay-agent /usr/local/bin/relay-*
step "all of it was as it should"
