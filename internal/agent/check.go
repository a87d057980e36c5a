package agent

import (
	"context"
	"errors"
	"sync"

	"pushrelay/internal/exposition"
	"pushrelay/internal/push"
)

// checkingPusher refuses what no relay would take, before it travels: malformed bodies, and those beyond the agent's own
// limits (T14). What contradicts itself or others is the relay's to judge, which then sets the group's failure time.
type checkingPusher struct {
	pusher  push.Pusher
	limits  exposition.Limits
	parsers sync.Pool
}

func newCheckingPusher(pusher push.Pusher, limits exposition.Limits) *checkingPusher {
	return &checkingPusher{pusher: pusher, limits: limits, parsers: sync.Pool{New: func() any { return new(exposition.Parser) }}}
}

// Push checks the body and hands the push on.
func (c *checkingPusher) Push(ctx context.Context, r *push.Request) (push.Result, error) {
	if r.Operation != push.Delete {
		if err := c.check(r); err != nil {
			return push.Result{}, err
		}
	}
	return c.pusher.Push(ctx, r)
}

func (c *checkingPusher) check(r *push.Request) error {
	parser := c.parsers.Get().(*exposition.Parser)
	defer func() {
		parser.Reset()
		c.parsers.Put(parser)
	}()
	// Which names are allowed is the relay's setting; the wider scheme refuses nothing that it may take.
	options := exposition.Options{Names: exposition.UTF8Names, Limits: c.limits}
	parse := parser.ParseText
	if r.Format == exposition.ProtobufDelimited {
		parse = parser.ParseProtobuf
	}
	_, err := parse(r.Body, options)
	if _, inconsistent := errors.AsType[*exposition.InconsistentError](err); err == nil || inconsistent {
		return nil
	}
	return &push.Error{Kind: push.ErrInvalid, Message: err.Error()}
}
