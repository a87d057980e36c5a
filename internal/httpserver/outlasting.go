package httpserver

import "context"

// Outlasting returns a context for what must be brought to its end and answered once a request is taken. The request's own
// ends when the other end closes its sending half, which `nc -N` and socat do as soon as they have sent all; whether anybody
// still reads cannot be told. The returned one ends when the server does, in time for an answer. It has no deadline: the
// caller gives it one.
func Outlasting(ctx context.Context) (context.Context, context.CancelFunc) {
	c := connOf(ctx)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	if c == nil {
		return ctx, cancel
	}
	stop := context.AfterFunc(c.server.ending, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}
