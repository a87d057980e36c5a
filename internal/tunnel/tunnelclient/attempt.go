package tunnelclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"pushrelay/internal/tunnel"
)

// attempt is one try to open a session. It is given up when nothing was heard for a while, and not merely because it takes
// its time: a relay that ten thousand agents come back to lets each wait for its turn at every step.
type attempt struct {
	begun time.Time
	ctx   context.Context // ends when the attempt is given up; its cause says why
	conn  atomic.Pointer[tunnel.Conn]
	watch *time.Timer
	end   context.CancelCauseFunc
}

var (
	errNoAnswer  = errors.New("no answer from the relay, or from what is on the way to it")
	errNoWelcome = errors.New("relay does not answer the hello")
)

// newAttempt begins an attempt within ctx. The caller closes it.
func newAttempt(ctx context.Context) *attempt {
	a := &attempt{begun: time.Now()}
	a.ctx, a.end = context.WithCancelCause(ctx)
	a.watch = time.AfterFunc(tunnel.AttemptSilence, a.look)
	return a
}

// look gives the attempt up, or looks again when it could be time.
func (a *attempt) look() {
	left := tunnel.AttemptSilence - a.silence()
	switch {
	case a.ctx.Err() != nil:
	case left <= 0:
		a.end(a.whySilent())
	case time.Since(a.begun) >= tunnel.AttemptTimeout:
		a.end(errNoWelcome)
	default:
		a.watch.Reset(left)
	}
}

// whySilent returns why nothing more comes, as far as the socket tells. Small packets passed, or there would be no connection:
// what was sent since and is not acknowledged went in larger ones.
func (a *attempt) whySilent() error {
	conn := a.conn.Load()
	if conn == nil {
		return errNoAnswer
	}
	switch sent := conn.InFlight(); {
	case !sent.Known:
		return errNoAnswer
	case sent.Bytes > 0:
		return fmt.Errorf("%w: it was reached, and %d bytes sent there since were not acknowledged: packets of full size do not pass (is the MTU on the way smaller than this machine's?)", errNoAnswer, sent.Bytes)
	default:
		return fmt.Errorf("%w: what was sent has arrived, so that it hangs, or is no relay, or its packets of full size do not pass (MTU on the way)", errNoAnswer)
	}
}

// silence is how long nothing has come from the other side.
func (a *attempt) silence() time.Duration {
	if conn := a.conn.Load(); conn != nil {
		return time.Since(conn.Heard())
	}
	return time.Since(a.begun)
}

// remote is the address of whatever took the attempt's connection; empty if nothing did.
func (a *attempt) remote() string {
	if conn := a.conn.Load(); conn != nil {
		return conn.RemoteAddr().String()
	}
	return ""
}

// dial opens a connection whose bytes count as life.
func (a *attempt) dial(dial func(ctx context.Context, network, address string) (net.Conn, error), address string) (*tunnel.Conn, error) {
	raw, err := dial(a.ctx, "tcp", address)
	if err != nil {
		return nil, a.explain(err)
	}
	conn := tunnel.Track(raw)
	a.conn.Store(conn)
	return conn, nil
}

// explain returns why the attempt was given up, if it was, else err.
func (a *attempt) explain(err error) error {
	if a.ctx.Err() != nil {
		return context.Cause(a.ctx)
	}
	return err
}

// close ends the watch over the attempt.
func (a *attempt) close() {
	a.end(context.Canceled)
	a.watch.Stop()
}
