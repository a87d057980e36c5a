# Not when another version follows.
if [ "$1" -eq 0 ] && command -v systemctl >/dev/null; then
	systemctl --no-reload disable --now @PROGRAM@.service >/dev/null 2>&1 || :
fi
exit 0
