package link

import (
	"context"
	"maps"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	relayv1 "pushrelay/internal/gen/relay/v1"
)

const (
	// exchangeEvery is how often members tell one another how they are: three times in the time after which a leader is taken for silent (C6).
	exchangeEvery = 500 * time.Millisecond
	// exchangeTimeout is how long one may take, and silence how long a member may answer none until the connection to it counts as dead.
	exchangeTimeout = time.Second
	silence         = 2 * time.Second
)

// states are how members are, as far as this one heard. It is safe for concurrent use.
type states struct {
	cfg *Config // static

	mu    sync.Mutex
	heard map[string]State // guarded by mu; by member
}

func newStates(cfg *Config) *states { return &states{cfg: cfg, heard: map[string]State{}} }

func (s *states) note(member string, m *relayv1.MemberState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.IsMember(member) {
		s.heard[member] = State{
			Revision: m.GetRevision(), Position: m.GetPosition(), Lag: m.GetLag().AsDuration(), Leads: m.GetLeads(), Term: m.GetTerm(), HasQuorum: m.GetHasQuorum(), Heard: time.Now(),
		}
	}
}

// all returns what was heard of those who are members now, and this one's own.
func (s *states) all() map[string]State {
	own := s.cfg.State()
	own.Heard = time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.heard, func(member string, _ State) bool { return !s.cfg.IsMember(member) })
	all := maps.Clone(s.heard)
	all[s.cfg.Name] = own
	return all
}

// of returns what was last heard of a member; nothing for never.
func (s *states) of(member string) State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heard[member]
}

func (s *states) own() *relayv1.MemberState {
	own := s.cfg.State()
	m := &relayv1.MemberState{Revision: own.Revision, Position: own.Position, Leads: own.Leads, Term: own.Term, HasQuorum: own.HasQuorum}
	if own.Lag > 0 {
		m.Lag = durationpb.New(own.Lag)
	}
	return m
}

// ExchangeState takes note of how the caller is. See member.proto.
func (s *Server) ExchangeState(ctx context.Context, in *relayv1.ExchangeStateRequest) (*relayv1.ExchangeStateResponse, error) {
	member, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	s.states.note(member, in.GetState())
	return &relayv1.ExchangeStateResponse{State: s.states.own()}, nil
}

// exchanges asks members how they are, again and again. It belongs to its run.
type exchanges struct {
	link   *Link
	states *states
	client *client

	mu       sync.Mutex
	asked    map[string]bool      // guarded by mu; those who are being asked
	answered map[string]time.Time // guarded by mu; when a member answered last, or was asked first
}

// run asks all members until ctx ends.
func (x *exchanges) run(ctx context.Context) {
	var asking sync.WaitGroup
	defer asking.Wait()
	every(ctx, exchangeEvery, func() {
		x.client.closeStrangers()
		for _, member := range x.states.cfg.Members() {
			if member != x.states.cfg.Name && x.begin(member) {
				asking.Go(func() { x.ask(ctx, member) })
			}
		}
	})
}

// begin notes that a member is asked, unless it is already.
func (x *exchanges) begin(member string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	maps.DeleteFunc(x.answered, func(member string, _ time.Time) bool { return !x.states.cfg.IsMember(member) })
	if x.asked[member] {
		return false
	}
	x.asked[member] = true
	return true
}

func (x *exchanges) ask(ctx context.Context, member string) {
	answered := x.exchange(ctx, member) == nil
	x.mu.Lock()
	delete(x.asked, member)
	if answered || x.answered[member].IsZero() || !x.client.isUp(member) {
		x.answered[member] = time.Now()
	}
	dead := time.Since(x.answered[member]) > silence
	x.mu.Unlock()
	if dead { // what swallows everything ends no connection
		x.client.reset(member)
	}
}

func (x *exchanges) exchange(ctx context.Context, member string) error {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	_, err := x.link.ask(ctx, member)
	return err
}
