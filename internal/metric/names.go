package metric

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"
)

// NameScheme says which names metrics and labels may have.
type NameScheme uint8

const (
	// LegacyNames admits letters, digits, underscores and, in metric names, colons, but no digit in front. It is the zero
	// value and what a Pushgateway does by default.
	LegacyNames NameScheme = iota
	// UTF8Names admits any valid UTF-8 text that is not empty.
	UTF8Names
)

// A text is a name, which stands in a string in one place and in bytes in another.
type text interface{ ~string | ~[]byte }

// nameByte is a set of names that a byte may stand in.
type nameByte uint8

const (
	inLabelName  nameByte = 1 << iota // in a legacy label name, if it is not a digit in front
	inMetricName                      // likewise in a metric name
)

// nameBytes gives the names that each byte may stand in. It is never written to.
var nameBytes = func() (bytes [256]nameByte) {
	for b := range bytes {
		switch {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '_':
			bytes[b] = inLabelName | inMetricName
		case b == ':':
			bytes[b] = inMetricName
		}
	}
	return bytes
}()

// ValidMetricName says whether the scheme admits a metric name.
func ValidMetricName[T text](s NameScheme, name T) bool {
	if s == UTF8Names {
		return len(name) > 0 && utf8.Valid([]byte(name))
	}
	return IsLegacyMetricName(name)
}

// ValidLabelName says whether the scheme admits a label name, reserved or not.
func ValidLabelName[T text](s NameScheme, name T) bool {
	if s == UTF8Names {
		return len(name) > 0 && utf8.Valid([]byte(name))
	}
	return IsLegacyLabelName(name)
}

// IsLegacyMetricName says whether a metric name is written without quotes: letters, digits, underscores and colons, not
// empty and not beginning with a digit.
func IsLegacyMetricName[T text](name T) bool { return isLegacyName(name, inMetricName) }

// IsLegacyLabelName says whether a label name is written without quotes. It is as [IsLegacyMetricName], but without colons.
func IsLegacyLabelName[T text](name T) bool { return isLegacyName(name, inLabelName) }

func isLegacyName[T text](name T, kind nameByte) bool {
	if len(name) == 0 || name[0] >= '0' && name[0] <= '9' {
		return false
	}
	for i := 0; i < len(name); i++ {
		if nameBytes[name[i]]&kind == 0 {
			return false
		}
	}
	return true
}

// Escaping is the way in which names that are no legacy names are exposed to a scraper.
type Escaping uint8

// The ways of escaping that a scraper can ask for. The zero value is what a scraper gets that asks for none.
const (
	EscapeUnderscores Escaping = iota // what is not allowed becomes an underscore
	EscapeDots                        // a dot becomes _dot_, an underscore __, all else __
	EscapeValues                      // U__ and the numbers of the runes, which can be undone
	AllowUTF8                         // no escaping; such names are quoted
)

// String returns the word for the escaping in content types.
func (e Escaping) String() string { return e.scheme().String() }

func (e Escaping) scheme() model.EscapingScheme {
	switch e {
	case EscapeDots:
		return model.DotsEscaping
	case EscapeValues:
		return model.ValueEncodingEscaping
	case AllowUTF8:
		return model.NoEscaping
	default:
		return model.UnderscoreEscaping
	}
}

// EscapingOf returns the escaping that Prometheus' library calls by that scheme.
func EscapingOf(s model.EscapingScheme) Escaping {
	switch s {
	case model.NoEscaping:
		return AllowUTF8
	case model.DotsEscaping:
		return EscapeDots
	case model.ValueEncodingEscaping:
		return EscapeValues
	default:
		return EscapeUnderscores
	}
}

// EscapeName returns a metric name in the given escaping. Two names may become one.
func EscapeName(name string, e Escaping) string {
	if IsLegacyMetricName(name) {
		return name
	}
	return model.EscapeName(name, e.scheme())
}

// EscapeLabelName returns a label name in the given escaping. Other than [EscapeName] it does not leave a colon in the
// name, which no parser of the text formats takes there.
func EscapeLabelName(name string, e Escaping) string {
	if e == AllowUTF8 || IsLegacyLabelName(name) {
		return name
	}
	if !strings.Contains(name, ":") {
		return model.EscapeName(name, e.scheme())
	}
	if e == EscapeValues {
		return escapeLabelValues(name)
	}
	// These two spell all that is not allowed alike, so that a space may stand in for the colon.
	return model.EscapeName(strings.ReplaceAll(name, ":", " "), e.scheme())
}

// escapeLabelValues is the escaping by values for label names, which spells colons, too.
func escapeLabelValues(name string) string {
	b := []byte("U__")
	for i, r := range name {
		switch {
		case r == '_':
			b = append(b, "__"...)
		case r < utf8.RuneSelf && nameBytes[r]&inLabelName != 0 && (i > 0 || r < '0' || r > '9'):
			b = append(b, byte(r))
		default:
			b = append(b, '_')
			b = strconv.AppendInt(b, int64(r), 16)
			b = append(b, '_')
		}
	}
	return string(b)
}
