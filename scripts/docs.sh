#!/usr/bin/env bash
# Makes a static site of the documents, with mkdocs as Debian has it and without network: scripts/docs.sh [DIR] (bin/site). The pages lie as in the
# repository, so that the same links lead there and here.
set -euo pipefail
cd "$(dirname "$0")/.."

site=$(realpath -m "${1:-bin/site}")
if ! command -v mkdocs >/dev/null; then
	echo "mkdocs is missing: sudo apt-get install mkdocs" >&2
	exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pages=$work/pages
mkdir "$pages"

# What is not committed yet is shown as well; what git ignores is not. Programs and tests have no place in a site.
git ls-files -z --cached --others --exclude-standard -- '*.md' docs deploy proto LICENSE THIRD_PARTY_NOTICES ':!**/testdata/**' |
	while IFS= read -r -d '' file; do
		if [[ -f $file ]]; then
			install -D -m 0644 "$file" "$pages/$file"
		fi
	done
# A link to a folder leads to a page of what is in it.
folders=()
for folder in "$pages"/deploy/*/; do
	folder=${folder%/}
	folders+=("${folder##*/}")
	{
		echo "# deploy/${folder##*/}"
		echo
		find "$folder" -type f -printf '%P\n' | sort | sed 's/.*/- [&](&)/'
	} >"$work/README.md"
	mv "$work/README.md" "$folder/README.md"
done
names=$(IFS='|' && echo "${folders[*]}")
find "$pages" -name '*.md' -exec sed -i -E "s#\]\(((\.\./)*(deploy/)?($names))/?\)#](\1/README.md)#g" {} +

# section TITLE PAGE… writes a part of the navigation. Titles of pages are their own.
section() {
	echo "  - $1:"
	shift
	printf '      - %s\n' "$@"
}

cd "$pages"
shopt -s nullglob
others=()
for page in docs/*.md; do
	[[ $page == docs/README.md || $page == docs/runbook.md ]] || others+=("$page")
done
{
	cat <<-END
		site_name: pushrelay
		docs_dir: $pages
		site_dir: $site
		theme: {name: readthedocs, highlightjs: false, navigation_depth: 2}
		plugins: [search]
		markdown_extensions: [sane_lists, toc: {permalink: true}]
		use_directory_urls: false
		strict: true
		nav:
		  - Documents: docs/README.md
		  - About: README.md
		  - Run book: docs/runbook.md
	END
	section "Learn it" docs/tutorial/*.md
	section "Do something" docs/how-to/*.md deploy/README.md certs/README.md
	section "Look something up" docs/reference/*.md
	section "Understand it" "${others[@]}" docs/decisions/README.md CONTRIBUTING.md
} >"$work/mkdocs.yml"
mkdocs build --quiet --clean --config-file "$work/mkdocs.yml"
# The theme of Debian asks for this file and does not bring it.
[[ -e $site/js/theme_extra.js ]] || : >"$site/js/theme_extra.js"
