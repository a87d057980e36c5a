package link

import (
	"context"
	"errors"
	"io"
	"sync"

	"pushrelay/internal/change"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/tunnel"
)

// lane sends changes to the member that decides and takes its answers, until that is another one or the connection breaks.
func (f *Forwarder) lane(ctx context.Context, leader Leader) error {
	ctx, cancel := during(ctx, leader)
	defer cancel()
	conn, err := f.client.conn(leader.Name)
	if err != nil {
		return err
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	stream, err := relayv1.NewMemberServiceClient(conn).Forward(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&relayv1.ForwardRequest{Part: &relayv1.ForwardRequest_Hello{Hello: &relayv1.ForwardHello{Incarnation: f.cfg.Incarnation[:]}}}); err != nil {
		return err
	}
	f.queue.relaunch()
	var answers sync.WaitGroup
	answers.Go(func() {
		for {
			response, err := stream.Recv()
			if err != nil {
				end(err)
				return
			}
			f.queue.take(response)
		}
	})
	if err := f.sendAll(ctx, stream); errors.Is(err, io.EOF) {
		<-ctx.Done() // why it is broken is an error of Recv
	} else {
		end(err)
	}
	answers.Wait()
	return context.Cause(ctx)
}

// sendAll sends changes, one after the other.
func (f *Forwarder) sendAll(ctx context.Context, stream relayv1.MemberService_ForwardClient) error {
	room := make([]byte, tunnel.ChunkBytes)
	tell := func(of journalOf, through uint64) error {
		part := &relayv1.ForwardForget{Agent: of.agent, JournalId: of.journal[:], Through: through}
		return stream.Send(&relayv1.ForwardRequest{Part: &relayv1.ForwardRequest_Forget{Forget: part}})
	}
	for {
		e, begin, err := f.next(ctx, tell)
		if err != nil {
			return err
		}
		if err := f.sendOne(stream, e, begin, room); err != nil {
			return err
		}
	}
}

// sendOne sends a change, as long as somebody waits for it. The body is copied piece by piece: it is the pusher's, who may go at any moment.
func (f *Forwarder) sendOne(stream relayv1.MemberService_ForwardClient, e *entry, begin *relayv1.ForwardBegin, room []byte) error {
	size := int(begin.GetChange().GetBodyBytes())
	begin.Body = nil
	if size <= tunnel.MaxInlineBodyBytes {
		n, ok := f.queue.chunk(e, 0, room[:size])
		if begin.Body = room[:n]; !ok || !f.queue.complete(e) {
			return nil
		}
		return stream.Send(&relayv1.ForwardRequest{Part: &relayv1.ForwardRequest_Begin{Begin: begin}})
	}
	if err := stream.Send(&relayv1.ForwardRequest{Part: &relayv1.ForwardRequest_Begin{Begin: begin}}); err != nil {
		return err
	}
	for sent := 0; sent < size; {
		n, ok := f.queue.chunk(e, sent, room)
		if !ok {
			return nil // without its end nothing comes of it
		}
		if err := stream.Send(&relayv1.ForwardRequest{Part: &relayv1.ForwardRequest_Chunk{Chunk: room[:n]}}); err != nil {
			return err
		}
		sent += n
	}
	if !f.queue.complete(e) {
		return nil
	}
	return stream.Send(&relayv1.ForwardRequest{Part: &relayv1.ForwardRequest_End{End: &relayv1.ForwardEnd{}}})
}

// decideHere decides what waits, since this relay leads by now. What went out to the leader before has the number that it had.
func (f *Forwarder) decideHere(ctx context.Context, leader Leader) {
	ctx, cancel := during(ctx, leader)
	defer cancel()
	d := newDesk(f.cfg, leader, f.queue.take)
	defer d.wait()
	f.queue.relaunch()
	for {
		e, begin, err := f.next(ctx, func(of journalOf, through uint64) error {
			forget(f.cfg.Store, of.agent, of.journal, through)
			return nil
		})
		if err != nil {
			return
		}
		body, ok := f.queue.body(e)
		if !ok || !f.queue.complete(e) {
			continue
		}
		c := *e.change
		if c.Body = body; c.Agent == "" {
			c.Origin = &change.Origin{Journal: f.cfg.Incarnation, Sequence: begin.GetNumber(), Digest: change.Digest(f.cfg.Incarnation), After: begin.GetAfter()}
		}
		d.take(task{number: begin.GetNumber(), order: order{change: &c, stored: e.stored}})
	}
}
