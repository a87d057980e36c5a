package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// sizes are how much is stored and sent. They are the figures of the limits, except in a quick run.
type sizes struct {
	small, large  int // stored series
	groupLines    int // series of a group, where nothing else is said
	pushes        int // per measurement and connection count
	peerPushes    int // the same, of a Pushgateway with its check
	tunnelScrapes int // per measurement through the tunnel
	bigBody       int // bytes
	farBody       int // bytes, over the slow network
	waiting       int // groups that wait at the agent
}

var (
	fullSizes  = sizes{small: 100_000, large: 1_000_000, groupLines: 50, pushes: 3000, peerPushes: 3, tunnelScrapes: 200, bigBody: 5_000_000, farBody: 1 << 20, waiting: 10_000}
	quickSizes = sizes{small: 2_000, large: 10_000, groupLines: 50, pushes: 100, peerPushes: 2, tunnelScrapes: 5, bigBody: 500_000, farBody: 1 << 20, waiting: 200}
)

// A lab holds everything that runs. It is used by one goroutine.
type lab struct {
	options

	sizes    sizes
	progress io.Writer
	dir      string // everything that is written
	started  []*program

	// What several sections measure stays up between them.
	relays map[storedRelay]*program
	peer   *program // the Pushgateway with sizes.small series; nil if there is none
}

// A storedRelay is a relay by what it holds, in groups of sizes.groupLines.
type storedRelay struct {
	series  int
	durable bool // with a data dir
}

// newLab prepares a folder and looks for the programs. It starts nothing.
func newLab(o options, progress io.Writer) (*lab, error) {
	l := &lab{options: o, sizes: fullSizes, progress: progress, relays: map[storedRelay]*program{}}
	if o.quick {
		l.sizes = quickSizes
	}
	if l.rounds == 0 {
		l.rounds = 7
		if o.quick {
			l.rounds = 2
		}
	}
	var err error
	if l.binDir, err = filepath.Abs(o.binDir); err != nil {
		return nil, fmt.Errorf("looking for the programs: %w", err)
	}
	for _, name := range []string{"relay-server", "relay-agent"} {
		if _, err := os.Stat(l.bin(name)); err != nil {
			return nil, fmt.Errorf("looking for the programs (make build, or --bin.dir): %w", err)
		}
	}
	if o.pushgateway != "" {
		path, err := exec.LookPath(o.pushgateway)
		if err != nil {
			fmt.Fprintf(progress, "no Pushgateway to measure beside (make deps, or --pushgateway): %v\n", err)
		}
		l.pushgateway = path
	}
	if l.dir, err = os.MkdirTemp("", "pushrelay-bench-"); err != nil {
		return nil, fmt.Errorf("making a folder: %w", err)
	}
	return l, nil
}

func (l *lab) bin(name string) string { return filepath.Join(l.binDir, name) }

func (l *lab) say(format string, args ...any) {
	fmt.Fprintf(l.progress, "  "+format+"\n", args...)
}

// close ends all programs, last started first, and removes the folder.
func (l *lab) close() error {
	var errs []error
	for _, p := range slices.Backward(l.started) {
		errs = append(errs, p.stop())
	}
	l.started = nil
	return errors.Join(append(errs, os.RemoveAll(l.dir))...)
}

// end ends one program before the others.
func (l *lab) end(p *program) error {
	l.started = slices.DeleteFunc(l.started, func(other *program) bool { return other == p })
	return p.stop()
}

// printLogs shows the last lines of what the programs said.
func (l *lab) printLogs(w io.Writer) {
	const shown = 4 << 10
	for _, p := range l.started {
		log, err := os.ReadFile(p.log)
		if err != nil || len(log) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n--- end of the log of %s\n%s\n", p.name, log[max(0, len(log)-shown):])
	}
}

// start starts a program that serves HTTP and waits until it is ready.
func (l *lab) start(ctx context.Context, name, path string, args ...string) (*program, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	args = append(args, "--web.listen-address="+address, "--log.level=warn")
	p, err := startProgram(l.dir, name, address, path, args...)
	if err != nil {
		return nil, err
	}
	l.started = append(l.started, p)
	return p, p.waitReady(ctx)
}

// startRelay starts a relay that holds nothing. Without a data dir it keeps everything in memory only.
func (l *lab) startRelay(ctx context.Context, dataDir string, args ...string) (*program, error) {
	// The lifecycle API serves the profiles that heapBytes reads.
	args = append(args, "--data.dir="+dataDir, "--web.enable-lifecycle")
	if !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--grpc.listen-address=") }) {
		args = append(args, "--grpc.listen-address=127.0.0.1:0")
	}
	return l.start(ctx, "relay-server", l.bin("relay-server"), args...)
}

// newDir returns a folder that nobody uses yet.
func (l *lab) newDir(name string) (string, error) {
	dir, err := os.MkdirTemp(l.dir, name+"-")
	if err != nil {
		return "", fmt.Errorf("making a folder: %w", err)
	}
	return dir, nil
}

// stored is the shape of what the relays of several sections hold.
func (l *lab) stored(series int) shape {
	return shape{groups: series / l.sizes.groupLines, lines: l.sizes.groupLines}
}

// relay returns a running relay that holds that many series.
func (l *lab) relay(ctx context.Context, want storedRelay) (*program, error) {
	if p := l.relays[want]; p != nil {
		return p, nil
	}
	dataDir := ""
	if want.durable {
		var err error
		if dataDir, err = l.newDir("relay"); err != nil {
			return nil, err
		}
	}
	p, err := l.startRelay(ctx, dataDir)
	if err != nil {
		return nil, err
	}
	if want.series > 0 {
		l.say("filling a relay with %d series", want.series)
		if err := l.fillAndCheck(ctx, p, l.stored(want.series)); err != nil {
			return nil, err
		}
	}
	l.relays[want] = p
	return p, nil
}

// fillAndCheck pushes every group of the shape and returns once all of them are shown. A Pushgateway without its check
// answers before it has stored anything.
func (l *lab) fillAndCheck(ctx context.Context, p *program, s shape) error {
	if err := fill(ctx, p.address, s); err != nil {
		return err
	}
	return p.until(ctx, func(ctx context.Context) error {
		shown, err := countSeries(ctx, p.address)
		if err == nil && shown != s.series() {
			err = fmt.Errorf("%s shows %d series after %d were pushed", p.name, shown, s.series())
		}
		return err
	})
}

// filledPeer returns a running Pushgateway that checks pushes and holds sizes.small series; nil if there is none.
func (l *lab) filledPeer(ctx context.Context) (*program, error) {
	if l.pushgateway == "" || l.peer != nil {
		return l.peer, nil
	}
	l.say("filling a Pushgateway with %d series", l.sizes.small)
	p, err := l.startFilledPeer(ctx, l.stored(l.sizes.small))
	l.peer = p
	return p, err
}

// startFilledPeer fills a Pushgateway with its check off and starts it again with the check on: its own file carries the
// groups over. Filling it with the check on would take hours for the larger sizes.
func (l *lab) startFilledPeer(ctx context.Context, s shape) (*program, error) {
	file := filepath.Join(l.dir, fmt.Sprintf("pushgateway-%d", s.series()))
	filling, err := l.startPeer(ctx, file, "--push.disable-consistency-check")
	if err != nil {
		return nil, err
	}
	if err := l.fillAndCheck(ctx, filling, s); err != nil {
		return nil, err
	}
	if err := l.end(filling); err != nil {
		return nil, err
	}
	return l.startPeer(ctx, file, "--persistence.interval=24h")
}

// startPeer starts a Pushgateway. The file is always given, empty for none: Debian's has a default that survives the run.
func (l *lab) startPeer(ctx context.Context, file string, args ...string) (*program, error) {
	return l.start(ctx, "pushgateway", l.pushgateway, append(args, "--persistence.file="+file)...)
}
