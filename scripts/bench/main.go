// Command bench measures the programs beside their peers, all on this machine and in one run: pushes, scrapes and memory
// beside a Pushgateway, and scrapes through the tunnel beside direct scrapes of the same target (and beside PushProx where
// PUSHPROX_PROXY and PUSHPROX_CLIENT name its two programs).
//
// It starts the real programs, on loopback only, and ends all of them. Measurements that are compared are interleaved: a
// machine that is busy with something else disturbs both sides. What is reported are medians and ratios, each with its
// spread and, where there is one, its limit. Absolute figures of a shared machine say little; the ratios say a lot.
//
// Start reading at lab.go; each section has a file of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch {
	case len(os.Args) > 1 && os.Args[1] == targetCommand:
		err = serveTarget(ctx, os.Args[2:])
	default:
		err = run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	binDir       string
	pushgateway  string
	only         []string
	quick, full  bool
	rounds       int
	jsonFile     string
	markdownFile string
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	var only string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.binDir, "bin.dir", "bin", "folder with relay-server and relay-agent")
	flags.StringVar(&o.pushgateway, "pushgateway", "prometheus-pushgateway", "the Pushgateway to measure beside: a path, or a name to look for; empty for none")
	flags.StringVar(&only, "only", "", "sections to run, separated by commas: "+strings.Join(sectionNames(), ", ")+" (default all)")
	flags.BoolVar(&o.quick, "quick", false, "small sizes and few rounds: shows that everything works, and judges nothing")
	flags.BoolVar(&o.full, "full", false, "also scrape 1M series from the Pushgateway, which takes minutes")
	flags.IntVar(&o.rounds, "rounds", 0, "interleaved rounds of each measurement (default 7, with --quick 2)")
	flags.StringVar(&o.jsonFile, "json", "", "file for the results as JSON")
	flags.StringVar(&o.markdownFile, "markdown", "", "file for the results as Markdown")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	if flags.NArg() > 0 {
		return options{}, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if only != "" {
		o.only = strings.Split(only, ",")
	}
	for _, name := range o.only {
		if !slices.Contains(sectionNames(), name) {
			return options{}, fmt.Errorf("--only: there is no section %q", name)
		}
	}
	if o.rounds < 0 {
		return options{}, fmt.Errorf("--rounds is %d, want 0 or more", o.rounds)
	}
	return o, nil
}

// run owns the folder and the processes of the benchmark: none of them is left when it returns.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	l, err := newLab(o, stderr)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			l.printLogs(stderr)
		}
		err = errors.Join(err, l.close())
	}()
	r := &report{Machine: describeMachine(ctx, l), Quick: o.quick}
	for _, s := range sections() {
		if len(o.only) > 0 && !slices.Contains(o.only, s.name) {
			continue
		}
		fmt.Fprintf(stderr, "%s\n", s.title)
		rows, err := s.measure(ctx, l)
		if err != nil {
			return fmt.Errorf("measuring %s: %w", s.name, err)
		}
		r.add(s.name, rows)
	}
	return r.write(stdout, o)
}

// A section is a part of the benchmark that can be run by itself.
type section struct {
	name, title string
	measure     func(context.Context, *lab) ([]row, error)
}

func sections() []section {
	return []section{
		{"push", "pushes over HTTP", measurePushes},
		{"durability", "durable pushes, and recovery", measureDurability},
		{"scrape", "scrapes of the exposition over HTTP", measureScrapes},
		{"contention", "pushes while scrapes run", measureContention},
		{"memory", "memory", measureMemory},
		{"tunnel", "scrapes through the tunnel", measureTunnel},
		{"spool", "pushes through the agent", measureSpool},
		{"cluster", "three relays that are one service", measureCluster},
	}
}

func sectionNames() []string {
	var names []string
	for _, s := range sections() {
		names = append(names, s.name)
	}
	return names
}
