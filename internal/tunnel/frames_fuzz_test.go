package tunnel_test

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/grouping"
	"pushrelay/internal/history"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/metric"
	"pushrelay/internal/target"
	"pushrelay/internal/tunnel"
)

// onWire returns a message as it travels.
func onWire(tb testing.TB, m proto.Message) []byte {
	tb.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// wantText wants a text of the other side to be one line of a bounded length.
func wantText(t *testing.T, what, s string) {
	t.Helper()
	if len(s) > tunnel.MaxTextBytes || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) || strings.ContainsAny(s, "\u2028\u2029") {
		t.Errorf("%s is %d bytes: %.100q", what, len(s), s)
	}
}

// FuzzCodec looks for a frame of the tunnel that the short way reads otherwise than protobuf does, and for a message that is another one
// once it is written again.
func FuzzCodec(f *testing.F) {
	f.Add(onWire(f, &relayv1.DeliverScrapeRequest{Part: &relayv1.DeliverScrapeRequest_Body{Body: []byte("m 1\n")}}), uint8(0))
	f.Add(onWire(f, &relayv1.DeliverScrapeRequest{Part: &relayv1.DeliverScrapeRequest_Head{Head: &relayv1.ScrapeHead{Status: 200, Headers: []*relayv1.Header{{Name: "Content-Type", Value: []byte("text/plain")}}}}}), uint8(0))
	f.Add(onWire(f, &relayv1.AttachRequest{Event: &relayv1.AttachRequest_Targets{Targets: &relayv1.TargetSet{Targets: []*relayv1.Target{{Name: "a", Labels: []*relayv1.Label{{Name: "b"}}}}}}}), uint8(1))
	f.Add(onWire(f, &relayv1.AttachResponse{Event: &relayv1.AttachResponse_Welcome{Welcome: &relayv1.Welcome{StoreId: make([]byte, 16)}}}), uint8(2))
	f.Add(onWire(f, &relayv1.PushRequest{Part: &relayv1.PushRequest_Begin{Begin: &relayv1.ChangeBegin{Change: 1}}}), uint8(3))
	f.Add(onWire(f, &relayv1.PushResponse{Change: 1, Verdict: &relayv1.PushResponse_Applied{Applied: &relayv1.Applied{}}}), uint8(4))
	f.Fuzz(func(t *testing.T, b []byte, kind uint8) {
		message := []proto.Message{&relayv1.DeliverScrapeRequest{}, &relayv1.AttachRequest{}, &relayv1.AttachResponse{}, &relayv1.PushRequest{}, &relayv1.PushResponse{}}[kind%5]
		again := proto.Clone(message)
		data := mem.BufferSlice{mem.SliceBuffer(b[:len(b)/2]), mem.SliceBuffer(b[len(b)/2:])} // as they may arrive
		err := tunnel.Codec{}.Unmarshal(data, message)
		if plain := proto.Unmarshal(b, again); (err == nil) != (plain == nil) || err == nil && !proto.Equal(message, again) {
			t.Fatalf("the codec reads %v, %v, and protobuf %v, %v", message, err, again, plain)
		}
		if err == nil {
			if rewritten := onWire(t, message); proto.Unmarshal(rewritten, again) != nil || !proto.Equal(message, again) {
				t.Errorf("%v is %v once it is written again", message, again)
			}
		}
		var part tunnel.Part
		defer part.Close()
		answer := &relayv1.DeliverScrapeRequest{}
		err = tunnel.Codec{}.Unmarshal(data, &part)
		if plain := proto.Unmarshal(b, answer); (err == nil) != (plain == nil) {
			t.Fatalf("a part of an answer: %v, and protobuf: %v", err, plain)
		}
		if err != nil || part.Message != nil {
			if err == nil && !proto.Equal(part.Message, answer) {
				t.Errorf("a part of an answer is %v, and by protobuf %v", part.Message, answer)
			}
			return
		}
		size := part.Remaining()
		if body, err := io.ReadAll(&part); err != nil || len(body) != size || !bytes.Equal(body, answer.GetBody()) {
			t.Errorf("a body is %q, %v, and by protobuf %q", body, err, answer.GetBody())
		}
	})
}

// FuzzChangeFrame looks for the begin of a change that makes a push which is another one once it travels on.
func FuzzChangeFrame(f *testing.F) {
	key, err := grouping.New(grouping.Label{Name: "job", Value: "j"}, grouping.Label{Name: "a.b", Value: "c"})
	if err != nil {
		f.Fatal(err)
	}
	for _, operation := range []change.Operation{change.Replace, change.Merge, change.Delete, change.Fail} {
		f.Add(onWire(f, tunnel.ChangeToProto(&change.Change{Operation: operation, Key: key, At: time.Now(), Format: exposition.ProtobufDelimited, Origin: &change.Origin{Sequence: 7}})), true)
	}
	f.Add(onWire(f, tunnel.ChangeToProto(&change.Change{
		Operation: change.Merge, Key: key, Life: lifetime.Declaration{TTL: lifetime.None, Schedule: "TZ=Europe/Berlin 15 3 * * *", Grace: lifetime.ByRule}, Failed: "exit status 2",
	})), true)
	f.Add(onWire(f, &relayv1.ChangeBegin{Operation: 99, GroupingKey: []*relayv1.Label{{Name: "job", Value: "j"}, {Name: "job", Value: "k"}}, Age: durationpb.New(-1)}), false)
	f.Fuzz(func(t *testing.T, b []byte, utf8Names bool) {
		begin := &relayv1.ChangeBegin{}
		if proto.Unmarshal(b, begin) != nil {
			return
		}
		names := metric.LegacyNames
		if utf8Names {
			names = metric.UTF8Names
		}
		now := time.Now()
		c, err := tunnel.ChangeFromProto(begin, now, []byte("m 1\n"), names)
		if err != nil {
			if c != nil || !change.OutcomeOf(err).IsFinal() {
				t.Errorf("%v: %+v beside %v", begin, c, err)
			}
			return
		}
		if c.Key.IsZero() || c.At.After(now) || c.Origin != nil && c.Origin.Sequence == 0 {
			t.Errorf("%v is taken as %+v", begin, c)
		}
		if c.Refused != nil {
			if !change.OutcomeOf(c.Refused).IsFinal() {
				t.Errorf("%v is refused and comes again: %v", begin, c.Refused)
			}
			return
		}
		wantText(t, "a failure", c.Failed)
		if !c.Operation.IsPush() {
			t.Errorf("%v is taken as %s", begin, c.Operation)
		}
		again, err := tunnel.ChangeFromProto(tunnel.ChangeToProto(c), now, c.Body, names)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, again, cmpopts.IgnoreFields(change.Change{}, "At", "Key")); diff != "" || c.Key != again.Key {
			t.Errorf("%v and %v:\n%s", c.Key, again.Key, diff)
		}
	})
}

// FuzzVerdict looks for a verdict of a relay that is none of those which an agent knows, or with more text than a line.
func FuzzVerdict(f *testing.F) {
	for _, kind := range change.Kinds() {
		f.Add(onWire(f, tunnel.VerdictToProto(3, change.Outcome{Kind: kind, Detail: "why", RetryAfter: time.Second, Decided: history.Point{Epoch: history.EpochID{1}, Position: 2}})))
	}
	f.Add(onWire(f, &relayv1.PushResponse{Verdict: &relayv1.PushResponse_Applied{Applied: &relayv1.Applied{Hidden: strings.Repeat("line\n", 1000)}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		response := &relayv1.PushResponse{}
		if proto.Unmarshal(b, response) != nil {
			return
		}
		o := tunnel.VerdictFromProto(response)
		wantText(t, "the reason", o.Detail)
		if !slices.Contains(change.Kinds(), o.Kind) {
			t.Errorf("%v is of kind %d", response, o.Kind)
		}
		again := tunnel.VerdictFromProto(tunnel.VerdictToProto(response.GetChange(), o))
		if v, reason := o.Kind.Verdict(); fmt.Sprint(again.Kind.Verdict()) != fmt.Sprint(v, reason) || again.Detail != o.Detail {
			t.Errorf("%v is %+v, and then %+v", response, o, again)
		}
	})
}

// FuzzTargetSet looks for an announcement that passes the bounds of a set, and for one that is another once it travels on.
func FuzzTargetSet(f *testing.F) {
	yes := true
	f.Add(onWire(f, &relayv1.TargetSet{Complete: &yes, Targets: []*relayv1.Target{{Name: "node", Job: "node", Instance: "i", Address: "localhost:9100", Scheme: "http", MetricsPath: "/metrics", ScrapeInterval: durationpb.New(time.Second), Labels: []*relayv1.Label{{Name: "a", Value: "b"}}}}}))
	f.Add(onWire(f, &relayv1.TargetSet{More: true, Targets: []*relayv1.Target{{}, {ScrapeTimeout: &durationpb.Duration{Seconds: -1 << 62}}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		part := &relayv1.TargetSet{}
		if proto.Unmarshal(b, part) != nil {
			return
		}
		var collector tunnel.TargetCollector
		set, _, err := collector.Take(part)
		if err != nil {
			if set.Targets != nil {
				t.Errorf("%d targets beside %v", len(set.Targets), err)
			}
			return
		}
		var count target.Count
		for _, one := range set.Targets {
			if err := count.Add(one.Bytes(), len(one.Labels)); err != nil {
				t.Errorf("%+v is taken: %v", one, err)
			}
			if interval, timeout := target.ClampTimes(one.ScrapeInterval, one.ScrapeTimeout); interval != one.ScrapeInterval || timeout != one.ScrapeTimeout {
				t.Errorf("the times of %+v are out of bounds", one)
			}
			if one.Validate() == nil && (strings.ContainsAny(one.Name, "/?#% ") || one.Name == ".." || one.Job == "") {
				t.Errorf("%+v is valid", one)
			}
		}
		for _, p := range tunnel.TargetSets(set) {
			if p.More {
				collector.Add(p)
				continue
			}
			again, clamped, err := collector.Take(p)
			if diff := cmp.Diff(set, again, cmpopts.EquateEmpty()); diff != "" || clamped > 0 || err != nil {
				t.Errorf("%d clamped, %v:\n%s", clamped, err, diff)
			}
		}
	})
}

// FuzzWelcome looks for a welcome of a relay with limits or a history that cannot be.
func FuzzWelcome(f *testing.F) {
	f.Add(onWire(f, &relayv1.Welcome{
		StoreId: make([]byte, 16), Limits: tunnel.LimitsToProto(exposition.DefaultLimits()), Journals: []*relayv1.JournalState{tunnel.JournalToProto(tunnel.JournalState{Decided: 3})},
		History: tunnel.HistoryToProto(history.History{Position: 9, Epochs: []history.Epoch{{ID: history.EpochID{1}, Began: 2}}}),
	}))
	f.Add(onWire(f, &relayv1.Welcome{StoreId: make([]byte, 16), Limits: &relayv1.Limits{MaxBodyBytes: 1 << 63, AgentLabel: "a\nb"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &relayv1.Welcome{}
		if proto.Unmarshal(b, p) != nil {
			return
		}
		w, err := tunnel.WelcomeFromProto(p)
		if err != nil {
			wantText(t, "the error", err.Error())
			return
		}
		l := w.Limits
		if l.MaxBodyBytes < 0 || l.MaxDecompressedBytes < 0 || l.MaxSeries < 0 || l.MaxLabels < 0 || l.MaxLabelLength < 0 || len(w.History.Epochs) > history.MaxEpochs {
			t.Errorf("%v is %+v", p, w)
		}
		again, err := tunnel.WelcomeFromProto(&relayv1.Welcome{StoreId: w.StoreID[:], Limits: p.GetLimits(), History: tunnel.HistoryToProto(w.History)})
		if err != nil || len(w.History.Epochs) > 0 && !cmp.Equal(again.History, w.History) {
			t.Errorf("the history %+v is %+v, %v", w.History, again.History, err)
		}
	})
}

// FuzzText looks for a text of the other side that becomes more than a line, or another one each time.
func FuzzText(f *testing.F) {
	f.Add("a\nb\u2028\xff" + strings.Repeat("ü", 600))
	f.Add(strings.Repeat("\xf0\x9f", 600))
	f.Fuzz(func(t *testing.T, s string) {
		text := tunnel.Text(s)
		wantText(t, "the text", text)
		if again := tunnel.Text(text); again != text {
			t.Errorf("%q becomes %q", text, again)
		}
		if len(s) <= tunnel.MaxTextBytes && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
			return unicode.IsControl(r) || r == utf8.RuneError || r == '\u2028' || r == '\u2029'
		}) && text != s {
			t.Errorf("%q becomes %q for nothing", s, text)
		}
	})
}
