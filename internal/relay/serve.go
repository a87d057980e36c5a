package relay

import (
	"context"
	"errors"

	"pushrelay/internal/httpserver"
)

// errRestart means that a relay ended so that another one takes its place.
var errRestart = errors.New("the relay restarts")

// A process is what relays share that follow one another in it. Its zero value is for a relay that none follows.
type process struct {
	kept      *httpserver.Kept // nil for none
	restarted bool             // there was a relay before: who asks while the next one starts waits
}

// Serve makes a relay and runs it until ctx ends, and another one in its place each time when it is told that what the data dir holds has become something
// else. Listeners stay open meanwhile: who asks waits, and nobody is refused. It tells current of each relay before it runs.
func Serve(ctx context.Context, opts Options, current func(*Server)) error {
	p := process{kept: &httpserver.Kept{}}
	defer p.kept.Close()
	for {
		s, err := newServer(opts, p)
		if err != nil {
			return err
		}
		current(s)
		if err = s.Run(ctx); !errors.Is(err, errRestart) {
			return err
		}
		p.restarted = true
		opts.Logger.Info("relay restarts in place")
	}
}

// Restart has another relay take the place of this one, which [Serve] makes. It does not wait for it.
func (s *Server) Restart() {
	select {
	case s.restart <- struct{}{}:
	default: // somebody asked before
	}
}
