package tunnel_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/status"

	"pushrelay/internal/change"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/grouping"
	"pushrelay/internal/roster"
	"pushrelay/internal/tunnel/tunnelclient"
)

// others is a roster.Sharing that gives each session the number of its attempt, and a thousand, as its epoch.
type others struct {
	refuses error

	mu       sync.Mutex
	attempts []uint64 // guarded by mu
}

func (o *others) Name() string                { return "here" }
func (o *others) Leads() bool                 { return false }
func (o *others) Admit(string, string) error  { return o.refuses }
func (o *others) Attached(*roster.Attachment) {}
func (o *others) Detached(*roster.Attachment) {}
func (o *others) Changed(string)              {}
func (o *others) Forget(string) error         { return nil }

func (o *others) Await(at *roster.Attachment) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.attempts = append(o.attempts, at.Attach())
	at.SetEpoch(int64(at.Attach()) + 1000)
}

func (o *others) numbers() []uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.attempts)
}

// reasonOf returns why an attempt was refused.
func reasonOf(t *testing.T, err error) *relayv1.SessionEnd {
	t.Helper()
	for _, detail := range status.Convert(err).Details() {
		if end, ok := detail.(*relayv1.SessionEnd); ok {
			return end
		}
	}
	t.Fatalf("the attempt was not refused with a reason, but: %v", err)
	return nil
}

// TestASessionThatOthersKnow: what a session carries has the session's epoch, and an agent counts its attempts, whichever link makes them.
func TestASessionThatOthersKnow(t *testing.T) {
	epochs := make(chan int64, 1)
	o := &others{}
	h := newHouseWith(t, pusherFunc(func(_ context.Context, c *change.Change) (change.Outcome, error) {
		epochs <- c.Epoch
		return change.Outcome{}, nil
	}), must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0")), o)
	process := tunnelclient.NewProcess()
	first, _ := h.startLink(h.authority, "site", process, scraperFunc(nil))
	eventually(t, "attached", func() bool { return first.Status().Connected })
	second, _ := h.startLink(h.authority, "site", process, scraperFunc(nil))
	eventually(t, "attached by another link", func() bool { return second.Status().Connected })
	if want := []uint64{1, 2}; !slices.Equal(o.numbers(), want) {
		t.Errorf("the attempts have the numbers %v, want %v", o.numbers(), want)
	}
	key := must[grouping.Key](t)(grouping.New(grouping.Label{Name: "job", Value: "j"}))
	if result := second.spool.Apply(timeout(t, 10*time.Second), &change.Change{Operation: change.Replace, Key: key, Body: []byte("m 1\n"), At: time.Now()}); result.Err() != nil {
		t.Fatal(result.Err())
	}
	if epoch := <-epochs; epoch != 1002 {
		t.Errorf("the change had the epoch %d", epoch)
	}
}

func TestAttemptsOfOneProcessAreInOrder(t *testing.T) {
	h := newHouse(t, nil)
	numbered := func(n uint64) *relayv1.Hello {
		greeting := hello()
		greeting.Attach = n
		return greeting
	}
	_, newest := h.greet("site", numbered(7))
	err := h.dialRaw("site").attach(t.Context(), numbered(6))
	if end := reasonOf(t, err); end.GetReason() != relayv1.SessionEndReason_SESSION_END_REASON_SUPERSEDED {
		t.Errorf("an earlier attempt ends with %v", end)
	}
	if !h.connected("site") {
		t.Error("the later attempt has lost its session")
	}
	newest.close()
	_, old := h.greet("site", hello()) // an agent that does not count
	old.close()
}

func TestAnAgentThatNobodyCanSayOf(t *testing.T) {
	o := &others{refuses: errors.New("there is no majority")}
	h := newHouseWith(t, nil, must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0")), o)
	err := h.dialRaw("site").attach(t.Context(), hello())
	if end := reasonOf(t, err); end.GetReason() != relayv1.SessionEndReason_SESSION_END_REASON_UNSPECIFIED || end.GetMessage() != o.refuses.Error() {
		t.Errorf("the attempt ends with %v", end)
	}
}
