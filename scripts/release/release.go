package main

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A release is one run.
type release struct {
	version   version
	revision  string
	time      time.Time // of everything that has one, in UTC
	platforms []platform
	bin, out  string

	shared []file // what every archive has beside the programs
}

// programs are what is released.
var programs = []string{"relay-server", "relay-agent"}

// A file is one of an archive, a package or an image.
type file struct {
	path    string // with slashes, without one at the begin
	content []byte
	mode    os.FileMode
}

// make writes all of it.
func (r *release) make() error {
	if err := os.RemoveAll(r.out); err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	var err error
	if r.shared, err = r.readShared(); err != nil {
		return err
	}
	steps := []func() error{r.makeArchives, r.makePackages, r.makeImages, r.makeCharts, r.copyBills, r.writeChecksums}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// readShared reads what goes with the programs: manual pages and completion are beside those of this machine, and say the same on every platform.
func (r *release) readShared() ([]file, error) {
	var files []file
	for _, name := range []string{"LICENSE", "THIRD_PARTY_NOTICES", "CHANGELOG.md"} {
		content, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		files = append(files, file{name, content, 0o644})
	}
	deploy, err := readTree("deploy")
	if err != nil {
		return nil, err
	}
	files = append(files, deploy...)
	for _, name := range programs {
		for _, page := range []struct{ path, from string }{
			{"man/" + name + ".1", ".1"}, {"completion/" + name + ".bash", ".bash"}, {"completion/_" + name, ".zsh"},
		} {
			content, err := os.ReadFile(filepath.Join(r.bin, name+page.from))
			if err != nil {
				return nil, err
			}
			files = append(files, file{page.path, content, 0o644})
		}
	}
	return files, nil
}

// read returns a file of those that all archives have.
func (r *release) read(path string) []byte {
	i := slices.IndexFunc(r.shared, func(f file) bool { return f.path == path })
	if i < 0 {
		panic("release: " + path + " is not among what is released")
	}
	return r.shared[i].content
}

// program returns a program of a platform.
func (r *release) program(p platform, name string) ([]byte, error) {
	return os.ReadFile(filepath.Join(r.bin, p.String(), p.program(name)))
}

// readTree reads all files of a folder, which is the begin of their paths.
func readTree(dir string) ([]file, error) {
	var files []file
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files = append(files, file{filepath.ToSlash(path), content, 0o644})
		return nil
	})
	return files, err
}

// copyBills takes the bills of materials, which lie beside the programs.
func (r *release) copyBills() error {
	for _, p := range r.platforms {
		for _, name := range programs {
			content, err := os.ReadFile(filepath.Join(r.bin, p.String(), p.program(name)+".cdx.json"))
			if err != nil {
				return err
			}
			if err := r.write(fmt.Sprintf("%s-%s.%s.cdx.json", name, r.version, p), content); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *release) write(name string, content []byte) error {
	return os.WriteFile(filepath.Join(r.out, name), content, 0o644)
}

// writeChecksums writes SHA256SUMS of all that is there, as sha256sum --check takes it.
func (r *release) writeChecksums() error {
	files, err := readTree(r.out)
	if err != nil {
		return err
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(a.path, b.path) })
	var sums strings.Builder
	for _, f := range files {
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(f.content), filepath.Base(f.path))
	}
	return r.write("SHA256SUMS", []byte(sums.String()))
}
