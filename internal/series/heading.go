package series

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"

	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/metric"
	"pushrelay/internal/smallmap"
)

// A heading is the first piece of an encoding, up to the values of the first metric: the family, the names of the grouping
// labels, how many metrics there are and the label names of the first. It is what sets of one family have in common that
// differ in label values, and nearly all of it is parsed once for all of them.
//
// Where metric names are a group's own there are as many headings as families of groups, so a heading is kept small, too: what
// can be read from the text is read when it is asked for.
type heading struct {
	// Static after construction.
	text    string
	metrics uint32
	layout  uint32 // where in the text the label names of the first metric are
	nameEnd uint32 // where in the text the name of the family ends
	nameAt  uint8  // and where it begins
	typ     metric.Type
	flags   byte
	legacy  bool // every name in it can be written without quotes
	bare    bool // the first metric has neither buckets nor quantiles
	faulty  bool // has a defect

	// Guarded by the lock of the table's owner.
	sets   smallmap.Map[*Set] // those in the table
	family *family            // set when the heading enters the table, and never again: it is also read without the lock
}

// The flags of an encoding.
const (
	hasHelp = 1 << iota
	hasUnit
	hasCreated // each metric's values are preceded by its created timestamp
	hasExtra   // each metric's values are preceded by what only protobuf can say
)

// The flags of a metric within an encoding.
const (
	sameLayout = 1 << iota // label names and holes are those of the metric before
	sameBounds             // bucket bounds or quantiles are those of the metric before
)

// newHeading parses a heading.
func newHeading(text string) *heading {
	h := new(heading)
	h.parse(text, nil)
	return h
}

// parse fills in a heading. It uses the memory of scratch, and returns it.
func (h *heading) parse(text string, scratch []labelSlot) []labelSlot {
	*h = heading{text: text, flags: text[0], typ: metric.Type(text[1])}
	name, behind := cutText(text[2:])
	h.nameEnd = uint32(len(text) - len(behind))
	h.nameAt = uint8(int(h.nameEnd) - len(name))
	_, _, rest := h.texts()
	n, holes := cutUvarint(rest)
	rest = holes
	for range n {
		_, rest = cutText(rest)
	}
	metrics, rest := cutUvarint(rest)
	h.metrics = uint32(metrics)
	if h.metrics > 0 {
		h.bare = rest[0]&sameBounds != 0
		h.layout = uint32(len(text) - len(rest) + 1)
	}
	scratch = h.appendFirst(scratch[:0], holes)
	legacy, fault := h.judgeLabels(scratch)
	h.legacy = legacy && metric.IsLegacyMetricName(name)
	h.faulty = fault != "" || h.nameDefect() != nil
	return scratch
}

// Key is what tells headings of one family apart.
func (h *heading) Key() string { return h.text }

// nameIn returns the family's name in the text of a heading.
func nameIn[T string | []byte](text T) T {
	name, _ := cutText(text[2:])
	return name
}

// Name returns the family's name, unescaped.
func (h *heading) Name() string { return h.text[h.nameAt:h.nameEnd] }

// texts returns the texts that describe the family beside its name, and what follows them.
func (h *heading) texts() (help, unit, rest string) {
	rest = h.text[h.nameEnd:]
	if h.flags&hasHelp != 0 {
		help, rest = cutText(rest)
	}
	if h.flags&hasUnit != 0 {
		unit, rest = cutText(rest)
	}
	return help, unit, rest
}

// Help returns the help text, and whether there is one.
func (h *heading) Help() (text string, ok bool) {
	text, _, _ = h.texts()
	return text, h.flags&hasHelp != 0
}

// HasHelp says whether there is a help text.
func (h *heading) HasHelp() bool { return h.flags&hasHelp != 0 }

// Type returns the type.
func (h *heading) Type() metric.Type { return h.typ }

// Unit returns the unit, empty if there is none.
func (h *heading) Unit() string {
	_, unit, _ := h.texts()
	return unit
}

// holes returns the names of the grouping labels as they stand in the text, sorted, also those with an empty value.
func (h *heading) holes() string {
	_, _, rest := h.texts()
	_, names := cutUvarint(rest)
	return names
}

// HasHoles says whether the grouping labels have these names.
func (h *heading) HasHoles(labels []grouping.Label) bool {
	_, _, rest := h.texts()
	n, rest := cutUvarint(rest)
	if n != uint64(len(labels)) {
		return false
	}
	for i := range labels {
		var name string
		if name, rest = cutText(rest); name != labels[i].Name {
			return false
		}
	}
	return true
}

// defect returns the defect of the family or of the first metric's label names, or nil.
func (h *heading) defect() *defect {
	if d := h.nameDefect(); d != nil {
		return d
	}
	if _, fault := h.judgeLabels(h.appendFirst(nil, h.holes())); fault != "" {
		return &defect{metric: 0, text: fault}
	}
	return nil
}

func (h *heading) nameDefect() *defect {
	switch {
	case h.Name() == "":
		return &defect{metric: -1, text: "has no name"}
	case !soundName(h.Name()):
		return &defect{metric: -1, text: "has a name that cannot be exposed"}
	case IsReserved(h.Name()):
		return &defect{metric: -1, text: "has a reserved name: it is the relay's own"}
	}
	return nil
}

// judgeLabels says whether all names of labels can be written without quotes, and which of them a metric of the family must
// not have.
func (h *heading) judgeLabels(labels []labelSlot) (legacy bool, fault string) {
	legacy = true
	bound := h.typ.BoundLabel()
	for _, l := range labels {
		legacy = legacy && metric.IsLegacyLabelName(l.name)
		switch {
		case fault != "":
		case !soundLabel(l.name):
			fault = "has a label with an invalid name: " + exposition.Shown(l.name)
		case l.name == bound:
			fault = "must not have an explicit " + strconv.Quote(l.name) + " label"
		}
	}
	return legacy, fault
}

// soundLabel says whether a label may have that name.
func soundLabel[T string | []byte](name T) bool {
	return soundName(name) && !hasPrefix(name, model.ReservedLabelPrefix)
}

// soundName says whether a name can be written in every format. A NUL is valid UTF-8, but Prometheus' text parser stops
// there and loses the whole scrape.
func soundName[T string | []byte](name T) bool {
	if b, ok := any(name).([]byte); ok {
		return len(b) > 0 && utf8.Valid(b) && bytes.IndexByte(b, 0) < 0
	}
	s := string(name)
	return s != "" && utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
}

func hasPrefix[T string | []byte](text T, prefix string) bool {
	return len(text) >= len(prefix) && string(text[:len(prefix)]) == prefix
}

// appendFirst appends the label names and holes of the first metric.
func (h *heading) appendFirst(dst []labelSlot, holes string) []labelSlot {
	if h.metrics == 0 {
		return dst
	}
	dst, _ = cutLayout(dst, h.text[h.layout:], holes)
	return dst
}

// cutLayout reads label names and holes, and appends them. Both labels and holes are sorted, so that one walk through the
// names of holes finds them all.
func cutLayout(dst []labelSlot, s, holes string) (labels []labelSlot, rest string) {
	n, s := cutUvarint(s)
	dst = slices.Grow(dst, int(n))
	left, passed, hole := holes, uint64(0), ""
	for range n {
		var ref uint64
		if ref, s = cutUvarint(s); ref > 0 {
			for ; passed < ref; passed++ {
				hole, left = cutText(left)
			}
			dst = append(dst, labelSlot{name: hole, hole: int(ref) - 1})
			continue
		}
		var name string
		name, s = cutText(s)
		dst = append(dst, labelSlot{name: name, hole: -1})
	}
	return dst, s
}
