// Command mutants shows that the tests of several relays look at what the rules say: it puts one fault after the other into the source, each against a rule
// of docs/rules.md (C1 to C22), and wants the tests that are named for it to fail.
//
//	go run ./scripts/mutants --only=C8
//
// The tree is left alone: the compiler is told of the one changed file by an overlay. First all the tests are run without any fault, and must pass. What
// survives is a hole in the tests, and makes the exit code 1; so does a fault that does not build, panics or hangs, since that says nothing of what the tests
// look at.
//
// The table is in table_*.go. Its test, which is quick and runs with all others, wants each text to be where the table has it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// run tries the mutants that the arguments choose, on the module in the current directory.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	flags.SetOutput(stderr)
	only := flags.String("only", "", "rules, or parts of names, separated by commas: C8,clock (default all)")
	timeout := flags.Duration("timeout", 3*time.Minute, "how long the tests of one mutant may take")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	chosen := choose(table(), *only)
	if len(chosen) == 0 {
		return fmt.Errorf("--only: no mutant is of %q", *only)
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutants-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // What is left is in the temporary directory.
	t := &trial{root: root, dir: dir, timeout: *timeout, out: stdout}
	return t.run(ctx, chosen)
}
