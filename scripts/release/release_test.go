package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/klauspost/compress/gzip"
)

const epoch = "1700000000"

// build makes a folder with programs that are none.
func build(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	write := func(path, text string, mode os.FileMode) {
		t.Helper()
		path = filepath.Join(bin, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, program := range programs {
		for _, suffix := range []string{".1", ".bash", ".zsh"} {
			write(program+suffix, program+suffix, 0o600)
		}
		for _, p := range []string{"linux-amd64", "linux-arm64", "windows-amd64"} {
			suffix := ""
			if p == "windows-amd64" {
				suffix = ".exe"
			}
			write(p+"/"+program+suffix, program+" for "+p, 0o700)
			write(p+"/"+program+suffix+".cdx.json", "{}", 0o600)
		}
	}
	return bin
}

// releaseOf makes a release and returns what is in its folder.
func releaseOf(t *testing.T, bin string) map[string][]byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	if err := run([]string{"--version=v1.2.3-rc.1", "--revision=abc", "--platforms=linux/amd64 linux/arm64 windows/amd64", "--bin.dir=" + bin, "--out=" + out}, epoch); err != nil {
		t.Fatal(err)
	}
	files, err := readTree(out)
	if err != nil {
		t.Fatal(err)
	}
	contents := map[string][]byte{}
	for _, f := range files {
		contents[filepath.Base(f.path)] = f.content
	}
	return contents
}

func TestRelease(t *testing.T) {
	t.Chdir("../..")
	bin := build(t)
	got := releaseOf(t, bin)
	want := []string{
		"SHA256SUMS",
		"pushrelay-1.2.3-rc.1.linux-amd64.tar.gz", "pushrelay-1.2.3-rc.1.linux-arm64.tar.gz", "pushrelay-1.2.3-rc.1.windows-amd64.zip",
	}
	for _, program := range programs {
		want = append(want, program+"-1.2.3-rc.1.oci.tar", program+"-1.2.3-rc.1.tgz",
			program+"-1.2.3-rc.1.linux-amd64.cdx.json", program+"-1.2.3-rc.1.linux-arm64.cdx.json", program+"-1.2.3-rc.1.windows-amd64.cdx.json",
			program+"_1.2.3~rc.1-1_amd64.deb", program+"_1.2.3~rc.1-1_arm64.deb",
			program+"-1.2.3~rc.1-1.x86_64.rpm", program+"-1.2.3~rc.1-1.aarch64.rpm")
	}
	for _, name := range want {
		content, ok := got[name]
		if !ok {
			t.Errorf("%s is missing", name)
		}
		if sum := fmt.Sprintf("%x  %s\n", sha256.Sum256(content), name); name != "SHA256SUMS" && !strings.Contains(string(got["SHA256SUMS"]), sum) {
			t.Errorf("SHA256SUMS has no line %s", sum)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}

	// From another folder, the files made at another time.
	again := releaseOf(t, build(t))
	for name, content := range got {
		if !bytes.Equal(content, again[name]) {
			t.Errorf("%s has other bytes the second time", name)
		}
	}
}

// TestArchives: an archive has all that a platform needs in one folder, and belongs to nobody of the machine that made it.
func TestArchives(t *testing.T) {
	t.Chdir("../..")
	got := releaseOf(t, build(t))
	const folder = "pushrelay-1.2.3-rc.1.linux-arm64/"
	entries := tarOf(t, gunzip(t, got["pushrelay-1.2.3-rc.1.linux-arm64.tar.gz"]))
	for name, want := range map[string]string{
		"relay-server":                "relay-server for linux-arm64",
		"relay-agent":                 "relay-agent for linux-arm64",
		"man/relay-agent.1":           "relay-agent.1",
		"completion/relay-agent.bash": "relay-agent.bash",
		"completion/_relay-server":    "relay-server.zsh",
		"LICENSE":                     "Apache License",
		"THIRD_PARTY_NOTICES":         "prometheus",
		"CHANGELOG.md":                "# Changelog",
		"deploy/relay-agent.service":  "[Unit]",
	} {
		e, ok := entries[folder+name]
		if !ok || !strings.Contains(string(e.content), want) {
			t.Errorf("%s: %q, want %q in it", name, e.content, want)
		}
		mode := int64(0o644)
		if slices.Contains(programs, name) {
			mode = 0o755
		}
		if e.header != nil && (e.header.Mode != mode || e.header.Uid != 0 || e.header.ModTime.Unix() != 1700000000) {
			t.Errorf("%s: %+v", name, e.header)
		}
	}
	for name := range entries {
		if !strings.HasPrefix(name, folder) {
			t.Errorf("%s is not in the folder", name)
		}
	}
	content := got["pushrelay-1.2.3-rc.1.windows-amd64.zip"]
	r, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Open("pushrelay-1.2.3-rc.1.windows-amd64/relay-agent.exe"); err != nil {
		t.Error(err)
	}
}

// TestChart: a chart has the version of the release, and its rules are files and no links.
func TestChart(t *testing.T) {
	t.Chdir("../..")
	entries := tarOf(t, gunzip(t, releaseOf(t, build(t))["relay-server-1.2.3-rc.1.tgz"]))
	if got := string(entries["relay-server/Chart.yaml"].content); !strings.Contains(got, "\nversion: 1.2.3-rc.1\nappVersion: 1.2.3-rc.1\n") {
		t.Errorf("the chart is %s", got)
	}
	if got := string(entries["relay-server/rules/pushrelay.rules.yml"].content); !strings.Contains(got, "groups:\n") {
		t.Errorf("the rules are %q", got)
	}
}

// TestDeb: what dpkg has to know of files that are somebody's.
func TestDeb(t *testing.T) {
	t.Chdir("../..")
	got := releaseOf(t, build(t))
	members := arOf(t, got["relay-agent_1.2.3~rc.1-1_amd64.deb"])
	control, data := tarOf(t, gunzip(t, members["control.tar.gz"])), tarOf(t, gunzip(t, members["data.tar.gz"]))
	if got := string(control["./conffiles"].content); got != "/etc/relay-agent/agent.yml\n/etc/relay-agent/relay-agent.env\n" {
		t.Errorf("conffiles: %q", got)
	}
	if got := string(control["./control"].content); !strings.Contains(got, "Version: 1.2.3~rc.1-1\n") || !strings.Contains(got, "Pre-Depends: passwd\n") {
		t.Errorf("control: %s", got)
	}
	for _, script := range []string{"./preinst", "./postinst", "./prerm", "./postrm"} {
		if e := control[script]; e.header == nil || e.header.Mode != 0o755 || strings.Contains(string(e.content), "@") || !strings.HasPrefix(string(e.content), "#!/bin/sh\nset -e\n") {
			t.Errorf("%s: %+v\n%s", script, e.header, e.content)
		}
	}
	unit := string(data["./usr/lib/systemd/system/relay-agent.service"].content)
	if !strings.Contains(unit, "\nExecStart=/usr/bin/relay-agent ") || strings.Contains(unit, "/usr/local") {
		t.Errorf("the unit:\n%s", unit)
	}
	for path, want := range map[string]string{
		"./usr/bin/relay-agent":             "-rwxr-xr-x root root",
		"./etc/relay-agent/relay-agent.env": "-rw-r----- root relay-agent",
		"./etc/relay-agent/":                "drwxr-x--- root relay-agent",
		"./var/lib/relay-agent/":            "drwx------ relay-agent relay-agent",
	} {
		h := data[path].header
		if h == nil {
			t.Errorf("%s is not there", path)
			continue
		}
		if got := fmt.Sprintf("%s %s %s", h.FileInfo().Mode(), h.Uname, h.Gname); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	if _, ok := tarOf(t, gunzip(t, arOf(t, got["relay-server_1.2.3~rc.1-1_amd64.deb"])["control.tar.gz"]))["./preinst"]; ok {
		t.Error("the relay's user comes and goes with its unit, and the package makes one")
	}
}

// TestImage: both platforms, nobody's, and nothing in it but the program, its data, whom it trusts and the licences.
func TestImage(t *testing.T) {
	t.Chdir("../..")
	content := releaseOf(t, build(t))["relay-server-1.2.3-rc.1.oci.tar"]
	index := indexOf(t, content, "localhost/relay-server:1.2.3-rc.1")
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 2 {
		t.Fatalf("the image: %+v, %v", manifest, err)
	}
	for _, d := range manifest.Manifests {
		image, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, d.Platform.Architecture, image)

		// As Docker reads it.
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
		tag := "localhost/relay-server:1.2.3-rc.1-" + d.Platform.Architecture
		manifests, err := tarball.LoadManifest(open)
		if err != nil || !slices.ContainsFunc(manifests, func(m tarball.Descriptor) bool { return slices.Contains(m.RepoTags, tag) }) {
			t.Errorf("manifest.json: %+v, %v", manifests, err)
		}
	}
}

// indexOf returns the image for all platforms that an archive has under a name.
func indexOf(t *testing.T, archive []byte, name string) v1.ImageIndex {
	t.Helper()
	dir := t.TempDir()
	for name, e := range tarOf(t, archive) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, e.content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	top, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	tops, err := top.IndexManifest()
	if err != nil || len(tops.Manifests) != 1 || tops.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != name {
		t.Fatalf("the layout: %+v, %v", tops, err)
	}
	index, err := top.ImageIndex(tops.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// entriesOf returns all that is in an image, by path; a folder that two layers have is there twice.
func entriesOf(t *testing.T, image v1.Image) (paths []string, entries map[string]entry) {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	entries = map[string]entry{}
	for _, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		for path, e := range tarOf(t, content) {
			paths = append(paths, path)
			entries[path] = e
		}
	}
	slices.Sort(paths)
	return paths, entries
}

func checkImage(t *testing.T, arch string, image v1.Image) {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := config.Config
	if config.Architecture != arch || config.OS != "linux" || c.User != "65534:65534" || c.Labels["org.opencontainers.image.revision"] != "abc" ||
		!slices.Equal(c.Entrypoint, []string{"/usr/bin/relay-server"}) || !slices.Equal(c.Healthcheck.Test, []string{"CMD", "relay-server", "check-ready"}) {
		t.Errorf("configuration for %s: %+v", arch, config)
	}
	names, entries := entriesOf(t, image)
	if h := entries["data/"].header; h == nil || h.Uid != nobody || h.Mode != 0o700 {
		t.Errorf("the data dir: %+v", h)
	}
	if e := entries["usr/bin/relay-server"]; string(e.content) != "relay-server for linux-"+arch || e.header.Mode != 0o755 {
		t.Errorf("the program: %+v %s", e.header, e.content)
	}
	roots := entries["etc/ssl/certs/ca-certificates.crt"].content
	if pool := x509.NewCertPool(); !pool.AppendCertsFromPEM(roots) || bytes.Count(roots, []byte("BEGIN")) < 100 {
		t.Errorf("no certificate authorities: %s", roots)
	}
	want := []string{
		"data/", "etc/", "etc/ssl/", "etc/ssl/certs/", "etc/ssl/certs/ca-certificates.crt", "usr/", "usr/", "usr/bin/", "usr/bin/relay-server", "usr/share/",
		"usr/share/doc/", "usr/share/doc/relay-server/", "usr/share/doc/relay-server/LICENSE", "usr/share/doc/relay-server/THIRD_PARTY_NOTICES",
	}
	if !slices.Equal(names, want) {
		t.Errorf("the image has %q, want %q", names, want)
	}
}

func TestRefusals(t *testing.T) {
	t.Chdir("../..")
	bin := build(t)
	for name, tt := range map[string]struct {
		args  []string
		epoch string
		want  string
	}{
		"no version":         {nil, epoch, `version "" is not one to release`},
		"a description":      {[]string{"--version=v1.2.3-4-gabcdef"}, epoch, `want a tag such as v1.2.3`},
		"two numbers":        {[]string{"--version=v1.2"}, epoch, `version "v1.2"`},
		"no v":               {[]string{"--version=1.2.3"}, epoch, `version "1.2.3"`},
		"no time":            {[]string{"--version=v1.2.3"}, "", "SOURCE_DATE_EPOCH"},
		"no platform":        {[]string{"--version=v1.2.3"}, epoch, "--platforms names none"},
		"half a platform":    {[]string{"--version=v1.2.3", "--platforms=linux"}, epoch, `platform "linux" is not os/arch`},
		"platform not built": {[]string{"--version=v1.2.3", "--platforms=plan9/amd64"}, epoch, "plan9-amd64"},
	} {
		err := run(append(tt.args, "--bin.dir="+bin, "--out="+t.TempDir()+"/out"), tt.epoch)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want an error with %s", name, err, tt.want)
		}
	}
}

// An entry is one of a tar archive.
type entry struct {
	header  *tar.Header
	content []byte
}

func tarOf(t *testing.T, content []byte) map[string]entry {
	t.Helper()
	entries := map[string]entry{}
	for r := tar.NewReader(bytes.NewReader(content)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return entries
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		entries[h.Name] = entry{h, body}
	}
}

func gunzip(t *testing.T, content []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// arOf returns the members of a package of Debian.
func arOf(t *testing.T, content []byte) map[string][]byte {
	t.Helper()
	members := map[string][]byte{}
	content, ok := bytes.CutPrefix(content, []byte("!<arch>\n"))
	if !ok {
		t.Fatal("this is no package")
	}
	for len(content) > 0 {
		var size int
		if _, err := fmt.Sscanf(string(content[48:58]), "%d", &size); err != nil {
			t.Fatal(err)
		}
		members[strings.Trim(string(content[:16]), " /")] = content[60 : 60+size]
		content = content[60+size+size%2:]
	}
	return members
}
