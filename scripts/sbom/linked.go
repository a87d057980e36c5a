package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// platforms are those that the Makefile builds for.
var platforms = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64"}

// A module is one of which something is linked, with the texts that go with it.
type module struct {
	path, version string
	texts         []text
}

// standard is the path of Go's own library.
const standard = "std"

// linked returns the modules of all that some packages link on any platform, sorted, without the module of the packages themselves.
func linked(packages []string) ([]module, error) {
	dirs := map[[2]string]map[string]string{} // of each module the directories of its packages, and its root
	for _, platform := range platforms {
		if err := list(platform, packages, dirs); err != nil {
			return nil, err
		}
	}
	keys := slices.SortedFunc(maps.Keys(dirs), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	var modules []module
	for _, key := range keys {
		m := module{path: key[0], version: key[1]}
		var err error
		if m.texts, err = textsOf(dirs[key]); err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(m.texts, func(t text) bool { return len(t.ids) > 0 }) {
			return nil, fmt.Errorf("module %s has no licence: may it be passed on?", m.path)
		}
		modules = append(modules, m)
	}
	if len(modules) == 0 {
		return nil, errors.New("nothing is linked")
	}
	return modules, nil
}

// list adds the packages of one platform.
func list(platform string, packages []string, dirs map[[2]string]map[string]string) error {
	goos, goarch, _ := strings.Cut(platform, "/")
	cmd := exec.CommandContext(context.Background(), "go", append([]string{"list", "-deps", "-json=Dir,Module,Standard"}, packages...)...)
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("listing what is linked on %s: %w", platform, err)
	}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			Dir      string
			Standard bool
			Module   *struct {
				Path, Version, Dir string
				Main               bool
				Replace            *struct{}
			}
		}
		err := decoder.Decode(&p)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case p.Standard: // its version is that of whoever builds
			add(dirs, standard, "", filepath.Join(goroot(), "src"), goroot())
		case p.Module == nil || p.Module.Main:
		case p.Module.Replace != nil:
			return fmt.Errorf("module %s is replaced by another: sbom does not know how to name it", p.Module.Path)
		default:
			add(dirs, p.Module.Path, p.Module.Version, p.Dir, p.Module.Dir)
		}
	}
}

func add(dirs map[[2]string]map[string]string, path, version, dir, root string) {
	key := [2]string{path, version}
	if dirs[key] == nil {
		dirs[key] = map[string]string{}
	}
	dirs[key][dir] = root
}

// goroot is where Go's own library is; empty if Go does not tell.
var goroot = sync.OnceValue(func() string {
	out, err := exec.CommandContext(context.Background(), "go", "env", "GOROOT").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
})

// textsOf reads the texts of packages and of all directories above them, to the root of their module. Equal ones come once.
func textsOf(dirs map[string]string) ([]text, error) {
	all := map[string]bool{}
	for dir, root := range dirs {
		for ; ; dir = filepath.Dir(dir) {
			all[dir] = true
			if dir == root || dir == filepath.Dir(dir) {
				break
			}
		}
	}
	var texts []text
	for _, dir := range slices.Sorted(maps.Keys(all)) {
		found, err := textsIn(dir)
		if err != nil {
			return nil, err
		}
		for _, t := range found {
			if !slices.ContainsFunc(texts, func(o text) bool { return o.content == t.content }) {
				texts = append(texts, t)
			}
		}
	}
	return texts, nil
}

// idsOf are the licences of a module.
func (m module) ids() []string {
	var ids []string
	for _, t := range m.texts {
		ids = append(ids, t.ids...)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
