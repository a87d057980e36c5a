// Command demo shows the whole thing on one machine in four acts, with nothing installed but Go: a push at an agent that appears at the relay; a
// target behind the agent that is scraped through the tunnel; a job that dies; an outage of the relay in which nothing is lost. Before that an agent comes in
// by a token. With --cluster it shows three relays that are one service, and kills one of them. The target is a Prometheus node exporter where one is installed, else the agent itself; where a Prometheus is installed it scrapes all of it.
//
// Every step is checked and not only shown. With a terminal on standard input the demo stays up until Ctrl-C, which ends it with 0;
// without one it ends with 0 once everything was shown and correct, and with 1 and the reason otherwise. Ctrl-C before that is 130.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	bin := flag.String("bin.dir", "bin", "folder with relay-server and relay-agent")
	ofCluster := flag.Bool("cluster", false, "show three relays that are one service instead")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, *bin, *ofCluster)
	switch {
	case errors.Is(err, errInterrupted):
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(exitInterrupted)
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

var errInterrupted = errors.New("ended before all of it was shown")

// exitInterrupted is that of the shells for SIGINT.
const exitInterrupted = 130

// run owns the folder and the processes of the demo: none of them is left when it returns.
func run(ctx context.Context, bin string, ofCluster bool) (err error) {
	dir, err := os.MkdirTemp("", "pushrelay-demo-")
	if err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()

	// The programs run in the demo's folder, where they may leave what they like.
	bin, err = filepath.Abs(bin)
	if err != nil {
		return fmt.Errorf("looking for the programs: %w", err)
	}
	d := &demo{out: os.Stdout, bin: bin, dir: dir}
	defer func() {
		stopErr := d.stop()
		switch {
		case errors.Is(err, errInterrupted):
		case err != nil:
			d.printLogs(os.Stderr)
		default:
			err = stopErr
		}
	}()
	if ofCluster {
		err = d.showCluster(ctx)
	} else {
		err = d.show(ctx)
	}
	if err != nil && ctx.Err() != nil {
		return errInterrupted
	}
	if err != nil {
		return err
	}
	if !isTerminal(os.Stdin) {
		return nil
	}
	fmt.Fprintln(d.out, "\nEverything stays up until Ctrl-C.")
	<-ctx.Done()
	return nil
}

// isTerminal reports whether somebody sits there. The null device is a character device too, and nobody sits at it.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}
