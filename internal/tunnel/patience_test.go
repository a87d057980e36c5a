package tunnel_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/change"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/tunnel"
)

// beat answers the relay's heartbeats until the session ends, and returns why it did. So nothing but what the test does not do can end it.
func (a *rawAgent) beat() <-chan *relayv1.SessionEnd {
	ended := make(chan *relayv1.SessionEnd, 1)
	go func() {
		for {
			event, err := a.stream.Recv()
			if err != nil {
				ended <- &relayv1.SessionEnd{Message: err.Error()}
				return
			}
			if end := event.GetEnd(); end != nil {
				ended <- end
				return
			}
			if beat := event.GetHeartbeat(); beat != nil {
				echo := &relayv1.HeartbeatEcho{SentAt: beat.GetSentAt(), EchoedAt: beat.GetSentAt()}
				a.stream.Send(&relayv1.AttachRequest{Event: &relayv1.AttachRequest_HeartbeatEcho{HeartbeatEcho: echo}})
			}
		}
	}()
	return ended
}

// TestHalfSentChanges: a change that stands still half sent ends the session, and one that comes slowly does not, however long it takes.
func TestHalfSentChanges(t *testing.T) {
	for _, tt := range []struct {
		name  string
		every time.Duration
		ends  bool
	}{{"slow", 50 * time.Second, false}, {"standing still", 3 * time.Minute, true}} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, time.Millisecond, func(t *testing.T, h *house, _ *network) {
				a := h.attachRaw("site")
				ended := a.beat()
				begin := changeBegin(1, "")
				begin.BodyBytes = 100
				a.part(&relayv1.PushRequest{Part: &relayv1.PushRequest_Begin{Begin: begin}})
				for range 10 {
					time.Sleep(tt.every)
					a.changes.Send(&relayv1.PushRequest{Part: &relayv1.PushRequest_Chunk{Chunk: []byte("x")}})
				}
				var end *relayv1.SessionEnd
				select {
				case end = <-ended:
				default:
				}
				if (end != nil) != tt.ends || tt.ends && (end.GetReason() != relayv1.SessionEndReason_SESSION_END_REASON_VIOLATION || !strings.Contains(end.GetMessage(), "half sent")) {
					t.Errorf("the session ended with %v", end)
				}
				a.close()
				h.wantGone("site")
			})
		})
	}
}

// TestVerdictsThatAreNotTaken end the session.
func TestVerdictsThatAreNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(time.Millisecond)
		t.Cleanup(n.pumps.Wait)
		t.Cleanup(func() { n.Close() })
		h := newHouseAt(t, pusherFunc(func(context.Context, *change.Change) (change.Outcome, error) {
			return change.Outcome{}, change.Refuse(change.Invalid, "%s", strings.Repeat("x", 1000))
		}), n)
		h.dial = n.Dial
		a := h.attachRaw("site")
		ended := a.beat()
		go func() {
			for number := uint64(1); ; number++ {
				begin := changeBegin(number, "")
				begin.Change = number
				for _, part := range []*relayv1.PushRequest{{Part: &relayv1.PushRequest_Begin{Begin: begin}}, {Part: &relayv1.PushRequest_End{End: &relayv1.ChangeEnd{}}}} {
					if a.changes.Send(part) != nil {
						return
					}
				}
			}
		}()
		begun := time.Now()
		if end := <-ended; end.GetReason() != relayv1.SessionEndReason_SESSION_END_REASON_VIOLATION && !strings.Contains(end.GetMessage(), "EOF") {
			t.Errorf("the session ended with %v", end)
		}
		if after := time.Since(begun); after < time.Minute || after > 2*time.Minute {
			t.Errorf("it ended after %s", after)
		}
		a.close()
		h.wantGone("site")
	})
}

// TestIdleStreamsOfChanges: a stream on which nothing is under way may be silent for as long as the session lives.
func TestIdleStreamsOfChanges(t *testing.T) {
	inBubble(t, time.Millisecond, func(t *testing.T, h *house, _ *network) {
		a := h.attachRaw("site")
		ended := a.beat()
		for range 3 {
			a.send(changeBegin(1, ""), "")
			if a.verdict().GetVerdict() == nil {
				t.Error("no verdict")
			}
			time.Sleep(time.Hour)
		}
		select {
		case end := <-ended:
			t.Errorf("the session ended with %v", end)
		default:
		}
		a.close()
		h.wantGone("site")
	})
}

// wantGone waits until the relay has no session of the agent, in the time of a bubble.
func (h *house) wantGone(name string) {
	h.t.Helper()
	waitFor(h.t, "the session is over", tunnel.SilenceLimit, func() bool { return !h.connected(name) })
}
