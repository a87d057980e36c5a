package link

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/addup"
	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/grouping"
	"pushrelay/internal/lifetime"
)

// travelled returns an order after it has travelled.
func travelled(t *testing.T, o order) order {
	t.Helper()
	wire, err := proto.Marshal(beginOf(o))
	if err != nil {
		t.Fatal(err)
	}
	begin := &relayv1.ForwardBegin{}
	if err := proto.Unmarshal(wire, begin); err != nil {
		t.Fatal(err)
	}
	got, err := orderOf(begin, o.change.Body)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestEveryFieldTravels: a field of a change, or of an order, that is not handed on must be named here.
func TestEveryFieldTravels(t *testing.T) {
	key, err := grouping.New(grouping.Label{Name: "job", Value: "j\xc3\xbc"}, grouping.Label{Name: "empty", Value: ""})
	if err != nil {
		t.Fatal(err)
	}
	life, err := lifetime.Parse(lifetime.Texts{TTL: "72h", Schedule: "0 3 * * *", Grace: "none"})
	if err != nil {
		t.Fatal(err)
	}
	o := order{stored: true, change: &change.Change{
		Operation: change.Add, Key: key, Format: exposition.ProtobufDelimited, Body: []byte("body"), At: time.Unix(1700000000, 123456789).UTC(), Owner: "textfile", Agent: "site", Epoch: 77,
		Origin: &change.Origin{Journal: [16]byte{1}, Sequence: 2, Digest: change.Digest{3}}, Once: &change.Once{Key: [16]byte{4}, Digest: change.Digest{5}},
		Refused: &change.Outcome{Kind: change.TooLarge, Detail: "too\nlarge", RetryAfter: time.Second}, Waited: true, MayBeHidden: true, Life: life, Failed: "exit status 1", Gauges: addup.Max, Version: 9,
	}}
	local := map[string]string{"Current": "what carries the push is known by its epoch"}
	for i := range reflect.TypeFor[change.Change]().NumField() {
		field := reflect.TypeFor[change.Change]().Field(i)
		if reflect.ValueOf(*o.change).Field(i).IsZero() != (local[field.Name] != "") {
			t.Errorf("the field %s of a change is not tried", field.Name)
		}
	}
	got := travelled(t, o)
	if diff := cmp.Diff(o.change, got.change, cmp.Comparer(func(a, b grouping.Key) bool { return a == b })); diff != "" {
		t.Errorf("a change (-want +got):\n%s", diff)
	}
	if got.stored != o.stored {
		t.Errorf("an order arrives as %+v", got)
	}
	if got := travelled(t, order{change: &change.Change{Operation: change.Delete, Key: key}}); !got.change.At.IsZero() || got.change.Refused != nil {
		t.Errorf("a change that says little arrives as %+v", got.change)
	}
}

// TestOperationsTravel: all that a relay may ask of its store, and nothing else.
func TestOperationsTravel(t *testing.T) {
	key, err := grouping.New(grouping.Label{Name: "job", Value: "j"})
	if err != nil {
		t.Fatal(err)
	}
	for operation := change.Replace; operation <= change.Add; operation++ {
		c := &change.Change{Operation: operation, Key: key, Format: exposition.Text004, Origin: &change.Origin{Sequence: 1}}
		switch operation {
		case change.Wipe:
			c.Key = grouping.Key{}
		case change.Mark, change.Forget: // nobody asks for the one, and the other is no change
			continue
		}
		if got := travelled(t, order{change: c}).change; got.Operation != operation || got.Key != c.Key || got.Refused != nil || !cmp.Equal(got.Origin, c.Origin) {
			t.Errorf("%v arrives as %+v", operation, got)
		}
	}
	begin := beginOf(order{change: &change.Change{Operation: change.Wipe}})
	begin.Operation = 99
	if _, err := orderOf(begin, nil); !errors.Is(err, change.Unsupported) {
		t.Errorf("an operation of a later release: %v", err)
	}
}

// TestOutcomesTravel: how a change ended is told by the relay that was asked just as the one that decided said it.
func TestOutcomesTravel(t *testing.T) {
	for _, kind := range change.Kinds() {
		o := change.Outcome{Kind: kind, Detail: "why\nnot", RetryAfter: 3 * time.Second, Duplicate: true, MayCountTwice: true}
		o.Decided.Position = 12
		if got := outcomeFromProto(outcomeToProto(o)); got != o {
			t.Errorf("%+v arrives as %+v", o, got)
		}
	}
	if got := outcomeFromProto(&relayv1.ChangeOutcome{Kind: 99}); got.Kind != change.Unavailable {
		t.Errorf("a kind of a later release arrives as %v", got.Kind)
	}
	if reflect.TypeFor[change.Outcome]().NumField() != 6 {
		t.Error("an outcome has another field, which has to travel")
	}
}

// TestScrapesAreTheAgents: what the tunnel's codec reads as a part of an agent's answer is one of another relay's.
func TestScrapesAreTheAgents(t *testing.T) {
	ours, agents := (&relayv1.ForwardScrapeResponse{}).ProtoReflect().Descriptor().Fields(), (&relayv1.DeliverScrapeRequest{}).ProtoReflect().Descriptor().Fields()
	for i := range ours.Len() {
		f := ours.Get(i)
		other := agents.ByNumber(f.Number())
		if other == nil || other.Name() != f.Name() || other.Kind() != f.Kind() || other.Message() != f.Message() {
			t.Errorf("the field %s is not that of an agent's answer", f.Name())
		}
	}
}
