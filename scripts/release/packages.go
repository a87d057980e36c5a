package main

import (
	"bytes"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	"github.com/goreleaser/nfpm/v2/rpm"
	"github.com/klauspost/compress/gzip"
)

// maintainer are the scripts that run when a package comes and goes, by format and moment. PROGRAM stands for the program's name, STATE for where
// it keeps its data.
//
//go:embed maintainer
var maintainer embed.FS

// A service is how a program runs where a package of it is installed.
type service struct {
	summary string
	state   []string          // folders with what it keeps, which go when the package is purged
	user    bool              // it has a user that is there while it does not run
	configs []string          // files of deploy/ that belong to whoever runs the machine: no version replaces one that was edited
	extras  map[string]string // folders below deploy/, and where they go
}

var services = map[string]service{
	"relay-server": {
		summary: "relay for metrics out of closed networks, and a Pushgateway",
		state:   []string{"/var/lib/pushrelay", "/var/lib/private/pushrelay"},
		configs: []string{"relay-server.env"},
		extras:  map[string]string{"prometheus": "/usr/share/relay-server/prometheus", "grafana": "/usr/share/relay-server/grafana"},
	},
	"relay-agent": {
		summary: "agent that brings metrics out of a closed network to a relay",
		state:   []string{"/var/lib/relay-agent"},
		user:    true,
		configs: []string{"relay-agent.env", "agent.yml"},
	},
}

const description = `
A relay-agent inside a closed network dials out to a public relay-server, over
gRPC with mutual TLS. Jobs push to the agent with the Pushgateway's API, and
Prometheus scrapes what is behind it through the relay.`

// packagings are the formats.
var packagings = []struct {
	format   string
	packager nfpm.Packager
}{
	{"deb", deb.Default},
	{"rpm", rpm.DefaultRPM},
}

// makePackages writes a package of each program for each Linux.
func (r *release) makePackages() error {
	for _, p := range r.platforms {
		if p.os != "linux" {
			continue
		}
		for _, name := range programs {
			for _, as := range packagings {
				if err := r.makePackage(p, name, as.format, as.packager); err != nil {
					return fmt.Errorf("%s of %s for %s: %w", as.format, name, p, err)
				}
			}
		}
	}
	return nil
}

func (r *release) makePackage(p platform, name, format string, packager nfpm.Packager) error {
	// nfpm takes the content of files from the disk.
	dir, err := os.MkdirTemp("", "package-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	s := &staging{dir: dir, release: r}
	r.stage(s, p, name, format)
	scripts := s.scripts(name, format)
	if s.err != nil {
		return s.err
	}
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: name, Arch: p.arch, Platform: p.os, Version: string(r.version), Release: "1", Section: "net", Priority: "optional",
		Maintainer: "The pushrelay Authors <pushrelay@localhost>", Vendor: "The pushrelay Authors", License: "Apache-2.0",
		Description: services[name].summary + description, MTime: r.time, DisableGlobbing: true,
		Overridables: nfpm.Overridables{
			Contents: s.contents, Scripts: scripts, Umask: 0o22,
			// The name of the machine that builds says nothing, and would be another one elsewhere.
			RPM: nfpm.RPM{BuildHost: "localhost", Summary: services[name].summary, Compression: "gzip:9"},
			Deb: nfpm.Deb{Compression: "gzip"},
		},
	})
	switch {
	case format == "deb":
		info.Depends = []string{"init-system-helpers"}
		if services[name].user {
			info.Deb.Predepends = []string{"passwd"}
		}
	case services[name].user:
		info.Depends = []string{"/usr/sbin/useradd", "/usr/sbin/groupadd"}
	}
	var out bytes.Buffer
	if err := packager.Package(info, &out); err != nil {
		return err
	}
	return r.write(packager.ConventionalFileName(info), out.Bytes())
}

// stage puts all that the package of a program has where nfpm finds it.
func (r *release) stage(s *staging, p platform, name, format string) {
	svc := services[name]
	program, err := r.program(p, name)
	s.note(err)
	s.add("/usr/bin/"+name, program, 0o755)
	s.add("/usr/lib/systemd/system/"+name+".service", s.unit(name), 0o644)
	s.add("/usr/share/man/man1/"+name+".1.gz", s.gzip(r.read("man/"+name+".1")), 0o644)
	s.add("/usr/share/bash-completion/completions/"+name, r.read("completion/"+name+".bash"), 0o644)
	zsh := "/usr/share/zsh/site-functions/_"
	if format == "deb" {
		zsh = "/usr/share/zsh/vendor-completions/_"
	}
	s.add(zsh+name, r.read("completion/_"+name), 0o644)
	doc := "/usr/share/doc/" + name + "/"
	s.add(doc+"copyright", r.read("LICENSE"), 0o644)
	s.add(doc+"THIRD_PARTY_NOTICES.gz", s.gzip(r.read("THIRD_PARTY_NOTICES")), 0o644)
	s.add(doc+"changelog.gz", s.gzip(r.read("CHANGELOG.md")), 0o644)
	group := "root"
	if svc.user {
		group = name
		s.folder("/etc/"+name, 0o750, "root", group)
		s.folder(svc.state[0], 0o700, name, group) // the agent may enrol before the unit, which would make it, has run
	} else {
		s.folder("/etc/"+name, 0o755, "root", group) // the user that reads it is there only while the program runs
	}
	for _, config := range svc.configs {
		s.add("/etc/"+name+"/"+config, r.read("deploy/"+config), 0o640)
		last := s.contents[len(s.contents)-1]
		last.Type, last.FileInfo.Group = files.TypeConfigNoReplace, group
	}
	for from, to := range svc.extras {
		for _, f := range r.shared {
			if rest, ok := strings.CutPrefix(f.path, "deploy/"+from+"/"); ok {
				s.add(to+"/"+rest, f.content, 0o644)
			}
		}
	}
}

// A staging is the content of one package. The first error stays.
type staging struct {
	dir      string
	release  *release
	contents files.Contents
	err      error
}

func (s *staging) note(err error) {
	if s.err == nil {
		s.err = err
	}
}

// add puts a file into the package.
func (s *staging) add(path string, content []byte, mode os.FileMode) {
	source := s.file(path, content)
	s.contents = append(s.contents, &files.Content{
		Source: source, Destination: path, FileInfo: &files.ContentFileInfo{Mode: mode, Owner: "root", Group: "root", MTime: s.release.time},
	})
}

func (s *staging) folder(path string, mode os.FileMode, owner, group string) {
	s.contents = append(s.contents, &files.Content{
		Destination: path, Type: files.TypeDir, FileInfo: &files.ContentFileInfo{Mode: mode, Owner: owner, Group: group, MTime: s.release.time},
	})
}

// file writes a file that nfpm reads, and returns where.
func (s *staging) file(path string, content []byte) string {
	source := filepath.Join(s.dir, filepath.FromSlash(path))
	s.note(os.MkdirAll(filepath.Dir(source), 0o755))
	s.note(os.WriteFile(source, content, 0o644))
	return source
}

// unit returns the program's unit, which stands where the package puts the program.
func (s *staging) unit(name string) []byte {
	const byHand, packaged = "ExecStart=/usr/local/bin/", "ExecStart=/usr/bin/"
	unit := string(s.release.read("deploy/" + name + ".service"))
	if strings.Count(unit, byHand+name) != 1 {
		s.note(fmt.Errorf("the unit of %s does not start %s%s once", name, byHand, name))
	}
	return []byte(strings.ReplaceAll(unit, byHand, packaged))
}

func (s *staging) gzip(content []byte) []byte {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	s.note(err)
	_, err = w.Write(content)
	s.note(err)
	s.note(w.Close())
	return out.Bytes()
}

// scripts writes those of a format. One that is not there does not run.
func (s *staging) scripts(name, format string) nfpm.Scripts {
	file := func(moment string) string {
		path := "maintainer/" + format + "/" + moment + ".sh"
		content, err := maintainer.ReadFile(path)
		s.note(err)
		text := strings.NewReplacer("@PROGRAM@", name, "@STATE@", strings.Join(services[name].state, " ")).Replace(string(content))
		return s.file("/"+path, []byte(text))
	}
	scripts := nfpm.Scripts{PostInstall: file("postinstall"), PreRemove: file("preremove"), PostRemove: file("postremove")}
	if services[name].user {
		scripts.PreInstall = file("preinstall")
	}
	return scripts
}
