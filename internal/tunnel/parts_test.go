package tunnel_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/tunnel"
)

// A message takes not a hundred times its bytes, whatever its parts are.
func TestMessagesOfManyPartsAreRefused(t *testing.T) {
	const many = 100_000
	targets := func(set *relayv1.TargetSet) proto.Message {
		return &relayv1.AttachRequest{Event: &relayv1.AttachRequest_Targets{Targets: set}}
	}
	for name, message := range map[string]proto.Message{
		"targets":           targets(&relayv1.TargetSet{Targets: repeated(many, &relayv1.Target{})}),
		"labels":            targets(&relayv1.TargetSet{Targets: []*relayv1.Target{{Labels: repeated(many, &relayv1.Label{})}}}),
		"targets of hellos": &relayv1.AttachRequest{Event: &relayv1.AttachRequest_Hello{Hello: &relayv1.Hello{Targets: &relayv1.TargetSet{Targets: repeated(many, &relayv1.Target{})}}}},
		"journals":          &relayv1.AttachRequest{Event: &relayv1.AttachRequest_Hello{Hello: &relayv1.Hello{JournalIds: make([][]byte, many)}}},
		"own families":      &relayv1.AttachResponse{Event: &relayv1.AttachResponse_Welcome{Welcome: &relayv1.Welcome{OwnFamilies: repeated(many, &relayv1.OwnFamily{})}}},
		"grouping labels":   &relayv1.PushRequest{Part: &relayv1.PushRequest_Begin{Begin: &relayv1.ChangeBegin{GroupingKey: repeated(many, &relayv1.Label{})}}},
		"headers":           &relayv1.DeliverScrapeRequest{Part: &relayv1.DeliverScrapeRequest_Head{Head: &relayv1.ScrapeHead{Headers: repeated(many, &relayv1.Header{})}}},
	} {
		raw, err := proto.Marshal(message)
		if err != nil || len(raw) > tunnel.MaxMessageBytes {
			t.Fatalf("%s: %d bytes, %v", name, len(raw), err)
		}
		for _, into := range []any{message.ProtoReflect().New().Interface(), new(tunnel.Part)} {
			if _, head := message.(*relayv1.DeliverScrapeRequest); !head {
				into = message.ProtoReflect().New().Interface()
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err = tunnel.Codec{}.Unmarshal(inPieces(raw), into)
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), "parts") {
				t.Errorf("%s: %v, want it refused", name, err)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 4<<20 {
				t.Errorf("%s: %d MiB for a message of %d KiB", name, took>>20, len(raw)>>10)
			}
		}
	}
}

// repeated is a list of n times the same.
func repeated[T any](n int, one T) []T {
	list := make([]T, n)
	for i := range list {
		list[i] = one
	}
	return list
}

// inPieces is a message as it may come from the network.
func inPieces(raw []byte) mem.BufferSlice {
	var pieces mem.BufferSlice
	for len(raw) > 0 {
		n := min(len(raw), 16<<10)
		pieces, raw = append(pieces, mem.SliceBuffer(raw[:n])), raw[n:]
	}
	return pieces
}

// The largest that an agent sends has room.
func TestFullMessagesAreTaken(t *testing.T) {
	part := &relayv1.TargetSet{}
	for i := range tunnel.TargetsPerMessage {
		one := &relayv1.Target{Name: fmt.Sprint(i), ScrapeInterval: durationpb.New(1), ScrapeTimeout: durationpb.New(1)}
		for l := range 64 {
			one.Labels = append(one.Labels, &relayv1.Label{Name: fmt.Sprintf("label_%02d", l), Value: strings.Repeat("x", 50)})
		}
		part.Targets = append(part.Targets, one)
	}
	want := &relayv1.AttachRequest{Event: &relayv1.AttachRequest_Targets{Targets: part}}
	raw, err := proto.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got := &relayv1.AttachRequest{}
	if err := (tunnel.Codec{}).Unmarshal(inPieces(raw), got); err != nil || !proto.Equal(got, want) {
		t.Errorf("a part of %d bytes: %v", len(raw), err)
	}
	// What cannot be decoded is still said by the decoder.
	if err := (tunnel.Codec{}).Unmarshal(inPieces(raw[:len(raw)-1]), got); err == nil || strings.Contains(err.Error(), "parts") {
		t.Errorf("half a message: %v", err)
	}
}
