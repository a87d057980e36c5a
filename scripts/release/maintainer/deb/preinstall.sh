#!/bin/sh
set -e

# Its files have this group when they are unpacked.
if ! getent group @PROGRAM@ >/dev/null; then
	groupadd --system @PROGRAM@
fi
if ! getent passwd @PROGRAM@ >/dev/null; then
	useradd --system --gid @PROGRAM@ --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin @PROGRAM@
fi
