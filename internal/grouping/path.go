package grouping

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"

	"pushrelay/internal/metric"
)

// Base64Suffix marks a component of the path whose value follows in base64.
const Base64Suffix = "@base64"

// escapedPrefix begins a label name in the escaped spelling of [metric.UTF8Names].
const escapedPrefix = "U__"

// Path is what the router takes out of the path of a push, percent-decoded already.
type Path struct {
	// Job is the component after job or job@base64.
	Job string
	// JobBase64 says that it was job@base64.
	JobBase64 bool
	// Labels is the rest of the path, empty or with its leading slash: /name/value and so on.
	Labels string
}

// FromPath returns the key that a path names. [metric.LegacyNames] takes every label name literally; [metric.UTF8Names]
// decodes one that begins with U__: an underscore is doubled there, and _HEX_ stands for the rune with that number. A name
// that cannot be decoded is taken literally. The grammar and the texts of the errors are the Pushgateway's: values in
// base64 use the alphabet for URLs, padded or not, names must be proper in the given scheme and not be reserved, the job of
// the path wins over a label job, and the last of several labels with one name wins. What goes further: a name that
// decodes to a reserved one, and a value that is not valid UTF-8, are refused, because such a label could never be exposed.
func FromPath(p Path, names metric.NameScheme) (Key, error) {
	job, err := pathJob(p)
	if err != nil {
		return Key{}, err
	}
	labels, err := pathLabels(p.Labels, names)
	if err != nil {
		return Key{}, err
	}
	if job == "" {
		return Key{}, errors.New("job name is required")
	}
	return fromSorted(put(labels, Label{Name: jobLabel, Value: job}))
}

func pathJob(p Path) (string, error) {
	if !p.JobBase64 {
		return p.Job, nil
	}
	job, err := decodeBase64(p.Job)
	if err != nil {
		// The reference names an empty job here, whatever was sent. Its words are kept as they are.
		return "", fmt.Errorf("invalid base64 encoding in job name %q: %w", "", err)
	}
	return job, nil
}

func pathLabels(path string, names metric.NameScheme) ([]Label, error) {
	if len(path) <= 1 {
		return nil, nil
	}
	components := strings.Split(path[1:], "/")
	if len(components)%2 != 0 {
		return nil, fmt.Errorf("odd number of components in label string %q", path)
	}
	var labels []Label
	for i := 0; i < len(components); i += 2 {
		label, err := pathLabel(components[i], components[i+1], names)
		if err != nil {
			return nil, err
		}
		labels = put(labels, label)
	}
	return labels, nil
}

func pathLabel(component, value string, names metric.NameScheme) (Label, error) {
	spelled, isBase64 := strings.CutSuffix(component, Base64Suffix)
	name := spelled
	if names == metric.UTF8Names {
		name = model.UnescapeName(spelled, model.ValueEncodingEscaping)
	}
	if !validName(name, names) || strings.HasPrefix(spelled, model.ReservedLabelPrefix) {
		return Label{}, improperName(spelled)
	}
	if !isBase64 {
		return Label{Name: name, Value: value}, nil
	}
	decoded, err := decodeBase64(value)
	if err != nil {
		return Label{}, fmt.Errorf("invalid base64 encoding for label %s=%q: %w", spelled, value, err)
	}
	return Label{Name: name, Value: decoded}, nil
}

// decodeBase64 takes any number of trailing = for padding: a client may need at least one to spell the empty value.
func decodeBase64(s string) (string, error) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	return string(b), err
}

// Path returns the path of the key below /metrics/, without a leading slash, such as job/backup/instance/db1: the job
// first, then the other labels by name. It is percent-encoded, and values that no router would hand over as they are stand
// in base64, so that it can be put into a URL as it is. [FromPath] with LegacyNames makes the same key of it again if all
// names are legacy names; otherwise, and where a relay takes UTF-8 names, [Key.PathFor] has the right spelling.
func (k Key) Path() string { return k.PathFor(metric.LegacyNames) }

// PathFor is [Key.Path] for a relay that reads paths with the given scheme. The schemes differ only for names that begin
// with U__, which mean themselves under LegacyNames. Names that LegacyNames does not admit are spelled as for UTF8Names.
func (k Key) PathFor(names metric.NameScheme) string {
	if k.IsZero() {
		return ""
	}
	b := appendComponents(nil, jobLabel, k.Job())
	for _, l := range k.Labels() {
		if l.Name == jobLabel {
			continue
		}
		b = append(b, '/')
		b = appendComponents(b, spellName(l.Name, names), l.Value)
	}
	return string(b)
}

func appendComponents(b []byte, name, value string) []byte {
	if needsBase64(value) {
		return append(b, Base64Component(name, value)...)
	}
	b = append(b, name...)
	b = append(b, '/')
	return append(b, url.PathEscape(value)...)
}

// Base64Component returns the part of a path that gives a label its value in base64, such as path@base64/L3Zhci90bXA. The
// name stands there as it is.
func Base64Component(name, value string) string {
	// An empty component would be cleaned away with its slash.
	return name + Base64Suffix + "/" + cmp.Or(base64.RawURLEncoding.EncodeToString([]byte(value)), "=")
}

// needsBase64 says that a value would not survive the way to FromPath when percent-encoded: a slash separates components
// even when it is encoded, empty and dotted components are cleaned away, and proxies refuse control characters.
func needsBase64(value string) bool {
	switch value {
	case "", ".", "..":
		return true
	}
	return strings.ContainsFunc(value, func(r rune) bool { return r == '/' || r < ' ' || r == 0x7f })
}

// spellName returns the component for a label name, percent-encoded.
func spellName(name string, names metric.NameScheme) string {
	if !metric.IsLegacyLabelName(name) {
		return url.PathEscape(escapeName(name))
	}
	if names == metric.UTF8Names && model.UnescapeName(name, model.ValueEncodingEscaping) != name {
		return escapeName(name)
	}
	return name
}

// escapeName spells a name in the way that FromPath decodes under UTF8Names. It is not model.EscapeName, which leaves a
// name such as U__foo_2e_bar alone although it decodes to another, and spells runes that cannot be decoded again.
func escapeName(name string) string {
	b := append([]byte(nil), escapedPrefix...)
	for i, r := range name {
		switch {
		case r == '_':
			b = append(b, "__"...)
		case r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' && i > 0:
			b = append(b, byte(r))
		case r > maxEscapedRune:
			b = append(b, string(r)...)
		default:
			b = append(b, '_')
			b = strconv.AppendInt(b, int64(r), 16)
			b = append(b, '_')
		}
	}
	return string(b)
}

// maxEscapedRune is the last rune that can be decoded from its number: decoding stops after five digits. Runes above it
// mean themselves in an escaped name.
const maxEscapedRune = 0xFFFFF
