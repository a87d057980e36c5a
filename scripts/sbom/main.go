// Command sbom says what is linked into the programs. It has two commands:
//
//	sbom bom --version=VERSION PROGRAM…    writes PROGRAM.cdx.json, a bill of materials (CycloneDX), for each program
//	sbom notices PACKAGE…                  writes the licences of all that the packages link, on any platform, on standard output
//
// A bill comes from the program itself, in which Go notes its modules; the notices from the source, so that they are the same on
// every machine. Neither has a time in it: the same source gives the same bytes. A licence that is not known to let us pass the
// program on is an error.
//
// It is a module of its own, so that the libraries that it needs stay out of the product's.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "sbom: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	if len(args) == 0 {
		return errors.New("want a command: bom or notices")
	}
	flags := flag.NewFlagSet("sbom "+args[0], flag.ContinueOnError)
	version := flags.String("version", "unknown", "version of the programs")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "bom":
		for _, program := range flags.Args() {
			if err := writeBill(program, *version); err != nil {
				return fmt.Errorf("%s: %w", program, err)
			}
		}
		return nil
	case "notices":
		modules, err := linked(flags.Args())
		if err != nil {
			return err
		}
		return writeNotices(stdout, modules)
	default:
		return fmt.Errorf("there is no command %q, only bom and notices", args[0])
	}
}
