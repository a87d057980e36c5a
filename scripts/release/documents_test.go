package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents returns what users read and copy of a checkout, by path: all but decisions, which are as it was at their time, and the change log.
func documents(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	for _, dir := range []string{"README.md", "docs", "deploy"} {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !entry.Type().IsRegular() || strings.HasPrefix(path, "docs/decisions/") {
				return err
			}
			content, err := os.ReadFile(path)
			pages[path] = string(content)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return pages
}

var (
	// copied is a file that a Dockerfile takes out of an image of ours.
	copied = regexp.MustCompile(`(?m)^COPY --from=\S*/(relay-server|relay-agent):\S+ (\S+) \S+$`)
	// started is a program of ours with its folder, where a machine starts it: in a unit or in a crontab.
	started = regexp.MustCompile("(?m)^```(?:crontab|ini)\n(?:.*\n)*?.*?[ =](/\\S*/relay-(?:server|agent)) ")
	// configured is a folder below /etc that has a name of ours.
	configured = regexp.MustCompile(`[^\w/](/etc/[\w-]*relay[\w-]*)`)
	// ofPods are those that a chart mounts.
	ofPods = []string{"/etc/relay-agent-enroll", "/etc/relay-agent-secrets", "/etc/relay-server-peer-ca", "/etc/relay-server-web"}
)

// TestPathsInDocuments: what documents take out of an image is in it, and what they name of a machine is where the packages put it.
func TestPathsInDocuments(t *testing.T) {
	t.Chdir("../..")
	pages := documents(t)
	got := releaseOf(t, build(t))
	images, packages := map[string][]string{}, map[string]bool{}
	for _, program := range programs {
		images[program] = filesOfImage(t, got[program+"-1.2.3-rc.1.oci.tar"], "localhost/"+program+":1.2.3-rc.1")
		for path := range tarOf(t, gunzip(t, arOf(t, got[program+"_1.2.3~rc.1-1_amd64.deb"])["data.tar.gz"])) {
			packages[strings.TrimSuffix(strings.TrimPrefix(path, "."), "/")] = true
		}
	}
	seen := [3]int{}
	for path, page := range pages {
		for _, m := range copied.FindAllStringSubmatch(page, -1) {
			seen[0]++
			if !slices.Contains(images[m[1]], strings.TrimPrefix(m[2], "/")) {
				t.Errorf("%s: the image of %s has no %s: %q", path, m[1], m[2], images[m[1]])
			}
		}
		for _, m := range started.FindAllStringSubmatch(page, -1) {
			seen[1]++
			if !packages[m[1]] {
				t.Errorf("%s: no package has %s", path, m[1])
			}
		}
		for _, m := range configured.FindAllStringSubmatch(page, -1) {
			seen[2]++
			if !packages[m[1]] && !slices.Contains(ofPods, m[1]) {
				t.Errorf("%s: no package has %s", path, m[1])
			}
		}
	}
	if seen[0] < 1 || seen[1] < 4 || seen[2] < 50 {
		t.Errorf("%d files of images, %d programs and %d folders were found", seen[0], seen[1], seen[2])
	}
}

// filesOfImage returns the paths in an image, which are the same for each platform.
func filesOfImage(t *testing.T, archive []byte, name string) []string {
	t.Helper()
	index := indexOf(t, archive, name)
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	image, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	paths, _ := entriesOf(t, image)
	return paths
}
