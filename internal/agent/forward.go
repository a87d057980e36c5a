package agent

import (
	"context"
	"sync"

	"pushrelay/internal/push"
	"pushrelay/internal/tunnel/tunnelclient"
)

// forwarder passes a push on to every relay that is attached, and answers with their verdict. It implements push.Pusher.
type forwarder struct {
	links []*tunnelclient.Link
}

// Push is refused if one relay refuses it, and unavailable if one of the attached relays cannot take it or none is
// attached: the client then pushes again.
func (f *forwarder) Push(ctx context.Context, r *push.Request) (push.Result, error) {
	attached := make([]*tunnelclient.Link, 0, len(f.links))
	for _, link := range f.links {
		if link.Status().Connected {
			attached = append(attached, link)
		}
	}
	if len(attached) == 0 {
		return f.links[0].Push(ctx, r) // has the reason
	}
	if len(attached) == 1 {
		return attached[0].Push(ctx, r)
	}
	verdicts := make([]verdict, len(attached))
	var relays sync.WaitGroup
	for i, link := range attached {
		relays.Go(func() { verdicts[i].result, verdicts[i].err = link.Push(ctx, r) })
	}
	relays.Wait()
	return combine(verdicts)
}

type verdict struct {
	result push.Result
	err    error
}

// combine returns the verdict that asks most of the client: a refusal, then an error that may pass, then success.
func combine(verdicts []verdict) (push.Result, error) {
	worst := verdicts[0]
	for _, v := range verdicts[1:] {
		if severity(v.err) > severity(worst.err) {
			worst = v
		}
	}
	return worst.result, worst.err
}

func severity(err error) int {
	switch {
	case err == nil:
		return 0
	case push.StatusOf(err) >= 500:
		return 1
	default:
		return 2
	}
}
