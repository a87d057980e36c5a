// Package grouping is the grouping key of a push: the set of labels that names a group, always with a job.
//
// It promises that a [Key] is sound whatever way it was made: names that are label names, values that are valid UTF-8,
// one value per name. It knows the URL grammar of the push routes (see [FromPath] and [Key.Path]) and nothing of HTTP, of
// bodies or of stores. Start reading at [Key].
package grouping

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"

	"pushrelay/internal/metric"
)

// separator stands between the names and values of a canonical key. No valid UTF-8 text contains this byte, so that no
// two keys share a canonical form.
const separator = "\xff"

const jobLabel = model.JobLabel

// Label is one name and value of a grouping key.
type Label struct{ Name, Value string }

// Key is a grouping key. It is an immutable value: keys are equal with == exactly if they hold the same labels, so that a
// Key can be the key of a map. A label with an empty value is kept and is not the same as an absent one. The zero value is
// no key at all, see [Key.IsZero]; every other Key has a job that is not empty.
type Key struct {
	// canonical is the one field: it makes keys comparable and costs one pointer where a key is kept.
	canonical string
}

// New returns the key of the given labels, in any order; the last of several labels with one name wins. It refuses a
// missing or empty job, a name that is empty, reserved (it begins with two underscores) or not valid UTF-8, and a value that
// is not valid UTF-8. The text of an error can be shown to the one who pushed.
func New(labels ...Label) (Key, error) {
	sorted := make([]Label, 0, len(labels))
	for _, l := range labels {
		if !validName(l.Name, metric.UTF8Names) {
			return Key{}, improperName(l.Name)
		}
		sorted = put(sorted, l)
	}
	return fromSorted(sorted)
}

// fromSorted makes the key of labels that are sorted, distinct and have proper names.
func fromSorted(labels []Label) (Key, error) {
	job, ok := find(labels, jobLabel)
	if !ok || labels[job].Value == "" {
		return Key{}, errors.New("job name is required")
	}
	size := 2*len(labels) - 1
	for _, l := range labels {
		if !utf8.ValidString(l.Value) {
			return Key{}, fmt.Errorf("grouping label %q has a value that is not valid UTF-8", l.Name)
		}
		size += len(l.Name) + len(l.Value)
	}
	var b strings.Builder
	b.Grow(size)
	for i, l := range labels {
		if i > 0 {
			b.WriteString(separator)
		}
		b.WriteString(l.Name)
		b.WriteString(separator)
		b.WriteString(l.Value)
	}
	return Key{canonical: b.String()}, nil
}

// Job returns the value of the job label. It is empty for the zero Key only.
func (k Key) Job() string {
	job, _ := k.Get(jobLabel)
	return job
}

// Names returns the names of labels, in their order.
func Names(labels []Label) []string {
	names := make([]string, len(labels))
	for i := range labels {
		names[i] = labels[i].Name
	}
	return names
}

// Get returns the value of the label with that name and whether the key has such a label.
func (k Key) Get(name string) (string, bool) {
	for rest := k.canonical; rest != ""; {
		var l Label
		l, rest = cut(rest)
		if l.Name == name {
			return l.Value, true
		}
	}
	return "", false
}

// Labels returns the labels of the key, sorted by name bytewise. The slice is the caller's own.
func (k Key) Labels() []Label {
	labels := make([]Label, 0, (strings.Count(k.canonical, separator)+1)/2)
	for rest := k.canonical; rest != ""; {
		var l Label
		l, rest = cut(rest)
		labels = append(labels, l)
	}
	return labels
}

// With returns the key that has the same labels except for the given one, which is added or takes the place of the label
// of that name. It is meant for labels that the program itself adds and panics where [New] would return an error.
func (k Key) With(name, value string) Key {
	if !validName(name, metric.UTF8Names) {
		panic(improperName(name))
	}
	with, err := fromSorted(put(k.Labels(), Label{Name: name, Value: value}))
	if err != nil {
		panic(err)
	}
	return with
}

// Canonical returns the names and values in the order of the names, joined by the byte 0xFF. It identifies the key, and
// groups are put in order by it (S16). It is empty for the zero Key only.
func (k Key) Canonical() string { return k.canonical }

// FromCanonical returns the key of a canonical form, as [Key.Canonical] returned it; the empty one is that of the zero Key.
func FromCanonical(canonical string) (Key, error) {
	if canonical == "" {
		return Key{}, nil
	}
	var labels []Label
	for rest := canonical; rest != ""; {
		var l Label
		l, rest = cut(rest)
		labels = append(labels, l)
	}
	key, err := New(labels...)
	if err != nil {
		return Key{}, err
	}
	if key.canonical != canonical {
		return Key{}, errors.New("a grouping key is not in its canonical form")
	}
	return key, nil
}

// String returns the key as people write it, such as {job="backup",instance="db1"}: the job first, then the other labels
// by name.
func (k Key) String() string {
	if k.IsZero() {
		return "{}"
	}
	b := append([]byte(nil), "{job="...)
	b = strconv.AppendQuote(b, k.Job())
	for _, l := range k.Labels() {
		if l.Name == jobLabel {
			continue
		}
		b = append(b, ',')
		if metric.IsLegacyLabelName(l.Name) {
			b = append(b, l.Name...)
		} else {
			b = strconv.AppendQuote(b, l.Name)
		}
		b = append(b, '=')
		b = strconv.AppendQuote(b, l.Value)
	}
	return string(append(b, '}'))
}

// IsZero says that the key is the zero value, which names no group.
func (k Key) IsZero() bool { return k.canonical == "" }

// cut takes the first label off a canonical form and returns what follows it.
func cut(canonical string) (Label, string) {
	name, rest, _ := strings.Cut(canonical, separator)
	value, rest, _ := strings.Cut(rest, separator)
	return Label{Name: name, Value: value}, rest
}

// put adds a label to sorted labels, in place of the one that has its name.
func put(labels []Label, l Label) []Label {
	i, ok := find(labels, l.Name)
	if ok {
		labels[i].Value = l.Value
		return labels
	}
	return slices.Insert(labels, i, l)
}

func find(labels []Label, name string) (int, bool) {
	return slices.BinarySearchFunc(labels, name, func(l Label, name string) int { return strings.Compare(l.Name, name) })
}

// validName says whether a label of that name may be part of a key.
func validName(name string, names metric.NameScheme) bool {
	return !strings.HasPrefix(name, model.ReservedLabelPrefix) && metric.ValidLabelName(names, name)
}

// CheckLabelName returns an error unless a label of that name may be part of a key under the given scheme.
func CheckLabelName(name string, names metric.NameScheme) error {
	if !validName(name, names) {
		return improperName(name)
	}
	return nil
}

func improperName(name string) error { return fmt.Errorf("improper label name %q", name) }
