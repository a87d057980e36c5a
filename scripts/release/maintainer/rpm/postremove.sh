if [ -d /run/systemd/system ]; then
	systemctl daemon-reload >/dev/null 2>&1 || :
	# This was an upgrade: the new version takes over.
	if [ "$1" -ge 1 ]; then
		systemctl try-restart @PROGRAM@.service >/dev/null 2>&1 || :
	fi
fi
exit 0
