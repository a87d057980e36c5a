#!/usr/bin/env bash
# Makes a release twice, from two copies of this checkout in two folders, and fails unless all of it is the same bytes. Whatever
# else may differ between two machines with the same Go does: the second one has another home, time zone and file mode mask, no network, and
# compiles everything anew. For this machine's kind only, unless PLATFORMS says otherwise: that others are alike is Go's promise.
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

# The version is none of ours, and has to be one to release.
release=(release VERSION=v0.0.1 PLATFORMS="${PLATFORMS:-linux/$(go env GOARCH)}")
modules=$(go env GOMODCACHE)
make -C "$first" "${release[@]}" # downloads what is missing
# A network of its own has nothing in it; where that may not be made, Go at least is told to ask for nothing.
alone=()
! unshare --net true 2>/dev/null || alone=(unshare --net)
(
	umask 027
	mkdir "$work/home"
	HOME=$work/home TZ=Asia/Kathmandu LC_ALL=C GOMODCACHE=$modules GOCACHE=$work/cache GOFLAGS=-modcacherw GOPROXY=off \
		"${alone[@]}" make -C "$second" "${release[@]}"
)

if ! diff -r "$first/bin/release" "$second/bin/release"; then
	echo "what is released differs from one time to the next: look at programs with 'go version -m' and 'go tool nm'" >&2
	exit 1
fi
echo "the same bytes twice:"
cat "$first/bin/release/SHA256SUMS"
