package link

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"

	relayv1 "pushrelay/internal/gen/relay/v1"
)

// Others asks all other members what they show: position is that of the last change that any of them is known to have shown, answered how many did answer, and able how
// many may belong to a majority without this one. Who cannot be asked may, unless its process is known to have ended.
func (l *Link) Others(ctx context.Context) (position uint64, answered, able int) {
	var asking sync.WaitGroup
	var mu sync.Mutex // guards the results
	for _, member := range l.states.cfg.Members() {
		if member == l.states.cfg.Name {
			continue
		}
		asking.Go(func() {
			state, err := l.ask(ctx, member)
			may := state.GetHasQuorum()
			if err != nil {
				may = !l.hasEnded(ctx, member)
			}
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				answered++
			}
			if may {
				able++
			}
			position = max(position, l.states.of(member).Position)
		})
	}
	asking.Wait()
	return position, answered, able
}

func (l *Link) ask(ctx context.Context, member string) (*relayv1.MemberState, error) {
	conn, err := l.client.conn(member)
	if err != nil {
		return nil, err
	}
	answer, err := relayv1.NewMemberServiceClient(conn).ExchangeState(ctx, &relayv1.ExchangeStateRequest{State: l.states.own()})
	if err != nil {
		return nil, err
	}
	l.states.note(member, answer.GetState())
	return answer.GetState(), nil
}

// hasEnded says that the process of a member is known to run no more: nobody listens at its address, and it has no connection to this one. An address alone may be
// refused by what stands between.
func (l *Link) hasEnded(ctx context.Context, member string) bool {
	address, ok := l.states.cfg.Address(member)
	if !ok || l.Server.isConnected(member) {
		return false
	}
	_, refused := Knock(ctx, address)
	return refused
}

// Knock finds out whether somebody listens at an address, and whether its host says that nobody does. Of a host that says nothing neither is known.
func Knock(ctx context.Context, address string) (listens, refused bool) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return false, errors.Is(err, syscall.ECONNREFUSED)
	}
	conn.Close() // Nothing was said on it.
	return true, false
}
