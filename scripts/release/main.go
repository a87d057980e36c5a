// Command release makes what people install out of programs that are built: archives for every platform, packages for Debian and for
// Red Hat and their kin, images for containers, charts for Helm, bills of materials, and the checksums of all of it.
//
//	release --version=v1.2.3 --platforms="linux/amd64 linux/arm64 …" --bin.dir=bin --out=bin/release
//
// It takes the programs from <bin.dir>/<os>-<arch>/ with their bills beside them, manual pages and completion from <bin.dir>, as `make man` writes them, and the
// rest from the current directory, which is the root of the checkout. The same programs give the same bytes: whatever needs a time takes $SOURCE_DATE_EPOCH.
// It reads no file of the machine beside these, and asks the network for nothing.
//
// It is a module of its own, so that what it links stays out of the product's.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		fmt.Fprintf(os.Stderr, "release: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string, epoch string) error {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	tag := flags.String("version", "", "version to release, as its tag: v1.2.3 or v1.2.3-rc.1")
	revision := flags.String("revision", "unknown", "commit of the sources")
	platforms := flags.String("platforms", "", "platforms, os/arch, separated by spaces")
	bin := flags.String("bin.dir", "bin", "folder with manual pages and completion, and one below for each platform with its programs")
	out := flags.String("out", "bin/release", "folder for what is released; it is made anew")
	if err := flags.Parse(args); err != nil {
		return err
	}
	version, err := parseVersion(*tag)
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return errors.New("SOURCE_DATE_EPOCH has to say when the sources were last changed, in seconds since 1970")
	}
	r := release{version: version, revision: *revision, time: time.Unix(seconds, 0).UTC(), bin: *bin, out: *out}
	for text := range strings.FieldsSeq(*platforms) {
		p, err := parsePlatform(text)
		if err != nil {
			return err
		}
		r.platforms = append(r.platforms, p)
	}
	if len(r.platforms) == 0 {
		return errors.New("--platforms names none")
	}
	return r.make()
}
