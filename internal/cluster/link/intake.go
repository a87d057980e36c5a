package link

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"pushrelay/internal/change"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/push"
)

const (
	// stall is how long a change may stand still half sent, and an answer may not be taken.
	stall = 10 * time.Second
	// forgetEvery is how often the store is told what a member's process is past.
	forgetEvery = time.Second
)

// A seat is a member's place at the desk. A later one of the same member takes its place.
type seat struct {
	member      string
	incarnation [16]byte
	lost        atomic.Bool        // another one has its place
	end         context.CancelFunc // of its stream
}

// Forward takes changes that a member hands on. See member.proto.
func (s *Server) Forward(stream relayv1.MemberService_ForwardServer) error {
	member, err := s.caller(stream.Context())
	if err != nil {
		return err
	}
	leader := s.cfg.Leader()
	if !leader.Leads {
		return status.Error(codes.FailedPrecondition, "this relay does not lead")
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	incarnation := first.GetHello().GetIncarnation()
	if len(incarnation) != len(seat{}.incarnation) {
		return status.Error(codes.InvalidArgument, "the first message of Forward must be a hello with an incarnation")
	}
	ctx, cancel := during(stream.Context(), leader)
	defer cancel()
	ctx, end := context.WithCancel(ctx)
	defer end()
	at := &seat{member: member, incarnation: [16]byte(incarnation), end: end}
	if !s.runs(at) {
		return status.Error(codes.FailedPrecondition, "the incarnation is not that of the member's running process, as far as this relay knows")
	}
	s.sit(at)
	defer s.rise(at)
	defer at.lost.Store(true) // what is not decided by then comes again
	return newIntake(ctx, s, at, leader, stream).run()
}

// sit gives a member's place to a stream. Of one that had it before nothing is decided from then on.
func (s *Server) sit(at *seat) {
	s.mu.Lock()
	before := s.seats[at.member]
	s.seats[at.member] = at
	s.mu.Unlock()
	if before != nil {
		before.lost.Store(true)
		before.end()
	}
}

func (s *Server) rise(at *seat) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seats[at.member] == at {
		delete(s.seats, at.member)
	}
}

// runs says whether the process that sits there is the one that runs.
func (s *Server) runs(at *seat) bool {
	incarnation, ok := s.cfg.Running(at.member)
	return ok && incarnation == at.incarnation && !at.lost.Load()
}

// current returns what the store asks in the moment in which a change would take effect.
func (s *Server) current(at *seat, agent string, epoch int64) func() bool {
	return func() bool { return s.runs(at) && (agent == "" || s.cfg.EpochCurrent(agent, epoch)) }
}

// intake is the changes of one stream on their way to the desk.
type intake struct {
	// static
	server *Server
	seat   *seat
	stream relayv1.MemberService_ForwardServer
	ctx    context.Context // ends with the stream, with the leadership, or when another stream takes the place
	desk   *desk

	answers chan *relayv1.ForwardResponse // taken by send, which alone writes to the stream

	// owned by receive
	begin     *relayv1.ForwardBegin // nil between changes
	body      *push.Buffer
	fault     *change.Outcome // of the change that comes in
	standing  *time.Timer     // runs while a change comes in
	forgotten uint64          // what the store was told that the process is past
	forgotAt  time.Time
}

func newIntake(ctx context.Context, s *Server, at *seat, leader Leader, stream relayv1.MemberService_ForwardServer) *intake {
	in := &intake{server: s, seat: at, stream: stream, ctx: ctx, answers: make(chan *relayv1.ForwardResponse, maxOut)}
	in.desk = newDesk(s.cfg, leader, func(r *relayv1.ForwardResponse) { in.answers <- r })
	return in
}

// run returns when the stream has ended, or is of no use any more. What is under way then ends after it: it can tell nobody.
func (in *intake) run() error {
	in.standing = time.AfterFunc(stall, in.seat.end)
	in.standing.Stop()
	ended := make(chan error, 1)
	in.server.tasks.Go(func() {
		var sender sync.WaitGroup
		sender.Go(in.send)
		err := in.receive()
		in.standing.Stop()
		in.desk.wait()
		in.drop()
		close(in.answers)
		sender.Wait()
		ended <- err
	})
	select {
	case err := <-ended:
		return err
	case <-in.ctx.Done():
		return status.Error(codes.FailedPrecondition, "this relay leads no longer, or the member has another stream")
	}
}

// send writes answers until there are no more.
func (in *intake) send() {
	unread := time.AfterFunc(stall, in.seat.end)
	unread.Stop()
	for answer := range in.answers {
		if in.ctx.Err() != nil {
			continue
		}
		unread.Reset(stall)
		if in.stream.Send(answer) != nil {
			in.seat.end()
		}
		unread.Stop()
	}
}

// receive takes changes until the stream ends or breaks.
func (in *intake) receive() error {
	for {
		request, err := in.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch part := request.GetPart().(type) {
		case *relayv1.ForwardRequest_Begin:
			in.takeBegin(part.Begin)
			if part.Begin.Body == nil {
				continue
			}
			in.takeChunk(part.Begin.Body)
			in.takeEnd()
		case *relayv1.ForwardRequest_Chunk:
			in.takeChunk(part.Chunk)
		case *relayv1.ForwardRequest_End:
			in.takeEnd()
		case *relayv1.ForwardRequest_Forget:
			in.takeForget(part.Forget)
		default:
			return status.Error(codes.InvalidArgument, "a part of the stream of changes is not known to this relay")
		}
	}
}

func (in *intake) takeBegin(begin *relayv1.ForwardBegin) {
	in.drop()
	in.standing.Reset(stall)
	in.begin = begin
	in.body = in.server.budget.Buffer(in.ctx, push.Sender{Name: "member " + in.seat.member, End: in.seat.end})
	in.forget(begin.GetSettled())
}

// drop forgets a change that has not ended.
func (in *intake) drop() {
	if in.body != nil {
		in.body.Release()
	}
	in.begin, in.body, in.fault = nil, nil, nil
}

func (in *intake) takeChunk(chunk []byte) {
	in.standing.Reset(stall)
	if in.begin == nil || in.fault != nil {
		return
	}
	if uint64(in.body.Len()+len(chunk)) > in.begin.GetChange().GetBodyBytes() {
		in.fault = change.Refuse(change.Invalid, "body is longer than the %d bytes announced", in.begin.GetChange().GetBodyBytes())
		return
	}
	if err := in.body.Take(chunk); err != nil {
		o := change.OutcomeOf(err)
		in.fault = &o
	}
}

// takeEnd hands a change that has come whole to the desk.
func (in *intake) takeEnd() {
	if in.begin == nil {
		return
	}
	in.standing.Stop()
	t := task{number: in.begin.GetNumber(), release: in.body.Release, fault: in.fault}
	o, err := orderOf(in.begin, in.body.Bytes())
	if err == nil && t.fault == nil {
		err = in.body.Complete(o.change.Format)
	}
	switch {
	case t.fault != nil:
	case err != nil:
		fault := change.OutcomeOf(err)
		t.fault = &fault
	case uint64(len(o.change.Body)) != in.begin.GetChange().GetBodyBytes():
		t.fault = change.Refuse(change.Invalid, "body has %d bytes of the %d announced", len(o.change.Body), in.begin.GetChange().GetBodyBytes())
	}
	if o.change != nil {
		o.change.Current = in.server.current(in.seat, o.change.Agent, o.change.Epoch)
	}
	t.order = o
	in.begin, in.body, in.fault = nil, nil, nil
	in.desk.take(t)
}

// takeForget has the store forget what an agent is past.
func (in *intake) takeForget(f *relayv1.ForwardForget) {
	if len(f.GetJournalId()) == len(journalOf{}.journal) && f.GetAgent() != "" {
		forget(in.server.cfg.Store, f.GetAgent(), [16]byte(f.GetJournalId()), f.GetThrough())
	}
}

// forget has the store forget, now and then, what the member's process is past.
func (in *intake) forget(through uint64) {
	if through > in.forgotten && time.Since(in.forgotAt) > forgetEvery {
		in.forgotten, in.forgotAt = through, time.Now()
		forget(in.server.cfg.Store, "", in.seat.incarnation, through)
	}
}
