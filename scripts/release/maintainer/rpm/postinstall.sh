# Whether it is enabled is for the system's presets to say; it is not started, as is usual here.
if [ "$1" -eq 1 ] && command -v systemctl >/dev/null; then
	systemctl --no-reload preset @PROGRAM@.service >/dev/null || :
fi
exit 0
