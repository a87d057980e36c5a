package groupstore

import (
	"errors"
	"slices"

	"google.golang.org/protobuf/proto"

	"pushrelay/internal/change"
	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/grouping"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/series"
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

// familiesOf and notesOf are the two records of a group.
type familiesOf struct {
	state *state
	born  uint64
}

type notesOf struct{ state *state }

func (f familiesOf) record() proto.Message {
	return &storagev1.Group{Born: f.born, Families: familiesMessage(f.state.parts, f.state.pushed, f.state.noted().later.ofFamilies())}
}

func (n notesOf) record() proto.Message {
	return &storagev1.Group{Version: n.state.version, Notes: notesMessage(n.state.noted(), n.state.pushed)}
}

func notesMessage(n notes, pushed int64) *storagev1.GroupNotes {
	m := &storagev1.GroupNotes{
		PushedAt: pushed, FailedAt: n.failed, Failure: []byte(n.reason), JobFailure: []byte(n.broken), Hidden: []byte(n.hidden), Life: lifeMessage(n.declared()),
	}
	for _, one := range n.marks {
		m.Marks = append(m.Marks, &storagev1.Mark{
			Source: []byte(one.source.name), Sequence: one.sequence, Digest: one.digest[:], Rejected: one.rejected, At: one.at,
		})
	}
	return withUnknown(m, n.later.ofNotes())
}

// readNotes reads what notesMessage made, with stand-ins for the sources.
func readNotes(m *storagev1.GroupNotes) (n notes, pushed int64, err error) {
	n = notes{failed: m.GetFailedAt(), reason: string(m.GetFailure()), broken: string(m.GetJobFailure()), hidden: string(m.GetHidden()), later: newLater(unknownOf(m), "")}
	if len(n.broken) > change.MaxFailedBytes || len(m.GetMarks()) > maxMarks {
		return n, 0, errRecord
	}
	if n.life, err = readLife(m.GetLife()); err != nil {
		return n, 0, err
	}
	if len(m.GetMarks()) > 0 {
		n.marks = make([]mark, 0, len(m.GetMarks()))
	}
	for _, one := range m.GetMarks() {
		name := string(one.GetSource())
		again := slices.ContainsFunc(n.marks, func(other mark) bool { return other.source.name == name })
		if name == "" || one.GetSequence() == 0 || len(one.GetDigest()) != 16 || again {
			return n, 0, errRecord
		}
		if unknownOf(one) != "" {
			return n, 0, errUnknown
		}
		n.marks = append(n.marks, mark{
			source: &source{name: name}, sequence: one.GetSequence(), digest: [16]byte(one.GetDigest()), rejected: one.GetRejected(), at: one.GetAt(),
		})
	}
	return n, m.GetPushedAt(), nil
}

// isZero says whether there is nothing to be noted.
func (n *notes) isZero() bool {
	return n.failed == 0 && n.reason == "" && n.hidden == "" && len(n.marks) == 0 && n.broken == "" && n.life == nil && n.later == nil
}

func lifeMessage(d lifetime.Declaration) *storagev1.Life {
	if d.IsZero() {
		return nil
	}
	t := d.Texts()
	return &storagev1.Life{Ttl: []byte(t.TTL), Every: []byte(t.Every), Schedule: []byte(t.Schedule), Grace: []byte(t.Grace)}
}

func readLife(m *storagev1.Life) (*lifetime.Declaration, error) {
	if m == nil {
		return nil, nil
	}
	life, err := lifetime.Restore(lifetime.Texts{TTL: string(m.GetTtl()), Every: string(m.GetEvery()), Schedule: string(m.GetSchedule()), Grace: string(m.GetGrace())})
	if err != nil || !life.IsKept() || life.IsZero() {
		return nil, errRecord
	}
	if unknownOf(m) != "" {
		return nil, errUnknown
	}
	return &life, nil
}

// familiesMessage defines each set in place.
func familiesMessage(parts []part, pushed int64, unknown string) *storagev1.Families {
	m := &storagev1.Families{}
	for i := range parts {
		p := &parts[i]
		m.SetSizes = append(m.SetSizes, uint32(p.set.Size()))
		m.Sets = p.set.AppendEncoding(m.Sets)
		m.ValueSizes = append(m.ValueSizes, uint32(len(p.values)))
		m.Values = append(m.Values, p.values...)
		if p.pushed != pushed && m.Pushed == nil {
			m.Pushed = make([]int64, len(parts))
		}
		if p.pushed != pushed {
			m.Pushed[i] = p.pushed - pushed
		}
		if h := p.hidden; h != nil {
			m.Hidden = append(m.Hidden, hidingMessage(i, h))
		}
	}
	return withUnknown(m, unknown)
}

func hidingMessage(family int, h *hiding) *storagev1.Hiding {
	m := &storagev1.Hiding{Family: uint32(family), Order: h.order, Reason: []byte(h.reason), Name: []byte(h.name)}
	if h.by != nil {
		m.By = []byte(h.by.key.Canonical())
	}
	return m
}

// readFamilies are the families of a record.
type readFamilies struct {
	parts     []part
	lines     int
	valueSize int
	hidings   []loadedHiding // of the parts that have one, whose order is settled; without their groups
	unknown   string
}

// decodeFamilies reads what familiesMessage made of a group with these labels that was pushed at that time. Sets that are not in the table are as
// [series.Table.Decode] returns them.
func decodeFamilies(m *storagev1.Families, pushed int64, labels []grouping.Label, sets *series.Table) (f readFamilies, err error) {
	f.unknown = unknownOf(m)
	if len(m.GetSetNumbers()) > 0 {
		return f, errRecord
	}
	definitions := m.GetSets()
	f.parts = make([]part, 0, len(m.GetSetSizes()))
	for _, size := range m.GetSetSizes() {
		if uint64(size) > uint64(len(definitions)) {
			return f, errRecord
		}
		k, err := sets.Decode(definitions[:size])
		if err != nil {
			return f, err
		}
		definitions = definitions[size:]
		if err := f.add(k, pushed, labels); err != nil {
			return f, err
		}
	}
	if len(definitions) > 0 {
		return f, errRecord
	}
	return f, f.fill(m, m.GetValues(), m.GetValueSizes())
}

// add adds a family.
func (f *readFamilies) add(k *series.Set, pushed int64, labels []grouping.Label) error {
	if !k.HasHoles(labels) {
		return errHoles
	}
	if n := len(f.parts); n > 0 && f.parts[n-1].set.Name() >= k.Name() {
		return errRecord
	}
	f.parts = append(f.parts, part{set: k, pushed: pushed})
	f.lines += k.Lines()
	return nil
}

// fill reads the other columns.
func (f *readFamilies) fill(m *storagev1.Families, values []byte, sizes []uint32) error {
	pushed := m.GetPushed()
	if len(sizes) != len(f.parts) || len(pushed) != 0 && len(pushed) != len(f.parts) {
		return errRecord
	}
	for i, after := range pushed {
		f.parts[i].pushed += after
	}
	for i, h := range m.GetHidden() {
		if int64(h.GetFamily()) >= int64(len(f.parts)) || i > 0 && m.GetHidden()[i-1].GetFamily() >= h.GetFamily() || h.GetOrder() == 0 {
			return errRecord
		}
		if unknownOf(h) != "" {
			return errUnknown
		}
		p := &f.parts[h.GetFamily()]
		p.hidden = &hiding{reason: string(h.GetReason()), name: string(h.GetName()), order: h.GetOrder()}
		f.hidings = append(f.hidings, loadedHiding{h: p.hidden, family: p.set.Name(), by: string(h.GetBy()), order: h.GetOrder()})
	}
	return f.cutValues(values, sizes)
}

// cutValues cuts the values of all parts from one string.
func (f *readFamilies) cutValues(rest []byte, sizes []uint32) error {
	f.valueSize = len(rest)
	values := string(rest)
	for i, size := range sizes {
		if uint64(size) > uint64(len(rest)) {
			return errRecord
		}
		if !f.parts[i].set.Fits(rest[:size]) {
			return errValues
		}
		f.parts[i].values, values, rest = values[:size], values[size:], rest[size:]
	}
	if len(rest) > 0 {
		return errRecord
	}
	return nil
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
