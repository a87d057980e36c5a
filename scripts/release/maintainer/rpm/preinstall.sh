# Its files have this group when they are unpacked.
getent group @PROGRAM@ >/dev/null || groupadd --system @PROGRAM@
getent passwd @PROGRAM@ >/dev/null || useradd --system --gid @PROGRAM@ --no-create-home --home-dir /nonexistent --shell /sbin/nologin @PROGRAM@
exit 0
