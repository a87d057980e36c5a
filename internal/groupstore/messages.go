package groupstore

import (
	"errors"

	"google.golang.org/protobuf/proto"

	"pushrelay/internal/change"
	storagev1 "pushrelay/internal/gen/storage/v1"
)

// What the store holds, as the messages of storage.v1 have it. Fields that a later release has added are kept where that makes sense, and written again;
// see there.

// errUnknown means that a record has fields that cannot be kept without knowing them.
var errUnknown = errors.New("it has fields that this release does not know")

func encodeMessage(m proto.Message) []byte {
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err) // the messages have neither required fields nor texts that have to be UTF-8
	}
	return encoded
}

// unknownOf returns the fields of a message that this release does not know.
func unknownOf(m proto.Message) string { return string(m.ProtoReflect().GetUnknown()) }

// withUnknown puts such fields back.
func withUnknown[M proto.Message](m M, unknown string) M {
	if unknown != "" {
		m.ProtoReflect().SetUnknown([]byte(unknown))
	}
	return m
}

func (t tracedMark) record() proto.Message {
	return withUnknown(&storagev1.Trace{
		Source: []byte(t.source), Group: uint64(t.key), Sequence: t.sequence, Digest: t.digest, At: t.stamp >> 1, Rejected: t.rejected(), Passed: t.passed,
	}, t.unknown)
}

func readTrace(m *storagev1.Trace) (tracedMark, error) {
	if len(m.GetSource()) == 0 || m.GetSequence() == 0 || m.GetAt() > 1<<63-1 {
		return tracedMark{}, errRecord
	}
	t := trace{sequence: m.GetSequence(), digest: m.GetDigest(), stamp: m.GetAt() << 1}
	if m.GetRejected() {
		t.stamp |= 1
	}
	return tracedMark{source: string(m.GetSource()), passed: m.GetPassed(), unknown: unknownOf(m), keyedTrace: keyedTrace{traceKey(m.GetGroup()), t}}, nil
}

func (d decided) record() proto.Message {
	return withUnknown(&storagev1.Source{Name: []byte(d.name), Sequence: d.sequence, Digest: d.digest[:]}, d.unknown)
}

func readSource(m *storagev1.Source) (decided, error) {
	if len(m.GetName()) == 0 || len(m.GetDigest()) != 16 {
		return decided{}, errRecord
	}
	return decided{string(m.GetName()), m.GetSequence(), [16]byte(m.GetDigest()), unknownOf(m)}, nil
}

func (a keyedAnswer) record() proto.Message {
	m := answerMessage(a.answer)
	m.Group, m.Position = []byte(a.canonical), a.position
	return m
}

// answerMessage is of an answer in a change, nil for none.
func answerMessage(a *answer) *storagev1.Answer {
	if a == nil {
		return nil
	}
	m := &storagev1.Answer{Key: a.key[:], Digest: a.digest[:], At: a.at, Detail: []byte(a.detail)}
	for kind, of := range answerKinds {
		if of == a.kind {
			m.Kind = storagev1.AnswerKind(kind + 1)
		}
	}
	return withUnknown(m, a.unknown)
}

func readAnswer(m *storagev1.Answer) (*answer, error) {
	if m == nil {
		return nil, nil
	}
	kind := int(m.GetKind()) - 1
	if len(m.GetKey()) != 16 || len(m.GetDigest()) != len(change.Digest{}) || kind < 0 || kind >= len(answerKinds) {
		return nil, errRecord
	}
	return &answer{
		key: [16]byte(m.GetKey()), digest: change.Digest(m.GetDigest()), at: m.GetAt(), kind: answerKinds[kind], detail: string(m.GetDetail()), unknown: unknownOf(m),
	}, nil
}
