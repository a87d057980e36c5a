package tunnel_test

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"pushrelay/internal/change"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/history"
	"pushrelay/internal/tunnel"
)

// TestHistoryTravels: the welcome tells where the store has been, and each final verdict by which change it was decided.
func TestHistoryTravels(t *testing.T) {
	var mu sync.Mutex
	waited := map[string]bool{}
	h := newHouse(t, pusherFunc(func(_ context.Context, r *change.Change) (change.Outcome, error) {
		mu.Lock()
		waited[r.Key.Job()] = r.Waited
		mu.Unlock()
		result := change.Outcome{Decided: history.Point{Position: 9}}
		switch r.Key.Job() {
		case "superseded":
			return result, change.Refuse(change.Superseded, "superseded")
		case "later":
			return result, change.Refuse(change.Full, "later")
		default:
			result.Kind = change.Applied
			return result, nil
		}
	}))
	a := h.attachRaw("site")
	w, err := tunnel.WelcomeFromProto(a.welcome)
	want := history.History{Epochs: []history.Epoch{{ID: epochOfTests}}, Position: 7}
	if diff := cmp.Diff(want, w.History); diff != "" || err != nil {
		t.Errorf("%v, history (-want +got):\n%s", err, diff)
	}
	decided := &relayv1.StorePoint{Epoch: epochOfTests[:], Position: 9}
	for _, tt := range []struct {
		job     string
		age     time.Duration
		waited  bool
		decided *relayv1.StorePoint
		reason  relayv1.RejectReason
	}{
		{"fresh", 0, false, decided, 0},
		{"waited", time.Hour, true, decided, 0},
		{"superseded", time.Hour, true, decided, relayv1.RejectReason_REJECT_REASON_SUPERSEDED},
		{"later", time.Hour, true, nil, 0},
	} {
		begin := changeBegin(1, "")
		begin.GroupingKey[0].Value, begin.Age = tt.job, durationpb.New(tt.age)
		a.send(begin, "")
		verdict := a.verdict()
		got := verdict.GetDecided()
		if !bytes.Equal(got.GetEpoch(), tt.decided.GetEpoch()) || got.GetPosition() != tt.decided.GetPosition() || verdict.GetRejected().GetReason() != tt.reason {
			t.Errorf("%s: the verdict is %v", tt.job, verdict)
		}
		mu.Lock()
		if waited[tt.job] != tt.waited {
			t.Errorf("%s: Waited = %v", tt.job, waited[tt.job])
		}
		mu.Unlock()
	}
}

// TestMalformedHistories: a relay that breaks the protocol is told so, and an unknown point is none.
func TestMalformedHistories(t *testing.T) {
	for name, h := range map[string]*relayv1.StoreHistory{
		"a short id":      {Epochs: []*relayv1.StoreEpoch{{Id: []byte("short")}}},
		"too many epochs": {Epochs: make([]*relayv1.StoreEpoch, history.MaxEpochs+1)},
	} {
		if _, err := tunnel.WelcomeFromProto(&relayv1.Welcome{StoreId: make([]byte, 16), History: h}); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if w, err := tunnel.WelcomeFromProto(&relayv1.Welcome{StoreId: make([]byte, 16)}); err != nil || len(w.History.Epochs) != 0 {
		t.Errorf("a relay that tells nothing: %+v, %v", w.History, err)
	}
	applied := &relayv1.PushResponse{Verdict: &relayv1.PushResponse_Applied{Applied: &relayv1.Applied{}}, Decided: &relayv1.StorePoint{Epoch: []byte("short"), Position: 1}}
	if o := tunnel.VerdictFromProto(applied); !o.IsTaken() || o.Decided != (history.Point{}) {
		t.Errorf("VerdictFromProto = %+v", o)
	}
}
