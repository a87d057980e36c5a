package main

import (
	"fmt"
	"regexp"
	"strings"
)

// A version is that of a release, without the v of its tag: 1.2.3, or 1.2.3-rc.1 for one before it.
type version string

// versions are the ones that all of Debian, RPM, Helm and registries of images order alike.
var versions = regexp.MustCompile(`^v(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-rc\.[1-9][0-9]*)?$`)

func parseVersion(tag string) (version, error) {
	if !versions.MatchString(tag) {
		return "", fmt.Errorf("version %q is not one to release: want a tag such as v1.2.3, or v1.2.3-rc.1 before it (make release VERSION=v1.2.3)", tag)
	}
	return version(strings.TrimPrefix(tag, "v")), nil
}

// A platform is one that is released.
type platform struct{ os, arch string }

func parsePlatform(text string) (platform, error) {
	goos, goarch, ok := strings.Cut(text, "/")
	if !ok || goos == "" || goarch == "" {
		return platform{}, fmt.Errorf("platform %q is not os/arch", text)
	}
	return platform{goos, goarch}, nil
}

func (p platform) String() string { return p.os + "-" + p.arch }

// program is the name of a program's file there.
func (p platform) program(name string) string {
	if p.os == "windows" {
		return name + ".exe"
	}
	return name
}
