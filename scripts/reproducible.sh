#!/usr/bin/env bash
# Builds both programs twice, from two copies of this checkout in two folders, and fails unless they are the same bytes. Whatever
# else may differ between two machines with the same Go does: the second build has another home, time zone and file mode mask, and
# compiles everything anew.
set -euo pipefail
shopt -s inherit_errexit # a command substitution fails with what fails in it

work=$(mktemp -d)
trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT # Go takes away the right to write from what it downloads
first=$work/first second=$work/a-second/folder/with-a-longer-name

# copy puts the checkout as it is, with its history if it has one, into a folder.
copy() {
	mkdir -p "$1"
	if git rev-parse --git-dir >/dev/null 2>&1; then
		git clone --quiet --no-checkout --shared . "$1"
		git -C "$1" reset --quiet
		git ls-files -z --cached --others --exclude-standard |
			while IFS= read -r -d '' file; do [[ ! -e $file ]] || printf '%s\0' "$file"; done |
			tar --create --null --files-from=- | tar --extract --directory="$1"
	else
		tar --create --exclude=./bin . | tar --extract --directory="$1"
	fi
}
copy "$first"
copy "$second"

modules=$(go env GOMODCACHE)
make -C "$first" build
(
	umask 027
	mkdir "$work/home"
	HOME=$work/home TZ=Asia/Kathmandu LC_ALL=C GOMODCACHE=$modules GOCACHE=$work/cache GOFLAGS=-modcacherw make -C "$second" build
)

failed=
for program in relay-server relay-agent; do
	if cmp "$first/bin/$program" "$second/bin/$program"; then
		echo "the same bytes twice: $(sha256sum <"$first/bin/$program" | cut -d' ' -f1)  $program"
	else
		echo "$program differs from one build to the next: look at the two with 'go version -m' and 'go tool nm'" >&2
		failed=yes
	fi
done
[[ -z $failed ]]
