package exposition

import (
	"bytes"
	"math"
	"strconv"

	"pushrelay/internal/metric"
)

// text is what the functions of this file take: names and values stand in strings in one place and in bytes in another.
type text interface{ ~string | ~[]byte }

// AppendFloat appends f as text format 0.0.4 renders a value or a bound: the shortest decimal that reads back as f, with an
// exponent below 1e-04 and from 1e+06 on. NaN, +Inf and -Inf are spelled so, and -0 is 0.
func AppendFloat(dst []byte, f float64) []byte {
	const firstWithExponent = 1e6
	if whole := int64(f); float64(whole) == f && whole > -firstWithExponent && whole < firstWithExponent {
		return strconv.AppendInt(dst, whole, 10)
	}
	// strconv spells NaN and the infinities just so, too.
	return strconv.AppendFloat(dst, f, 'g', -1, 64)
}

// canonical returns the one float that stands for all floats rendered like f, so that a value can be read back from its
// token: -0 and the NaNs with a payload of their own are not told apart in text.
func canonical(f float64) float64 {
	if f == 0 {
		return 0
	}
	if f != f {
		return math.NaN()
	}
	return f
}

// AppendEscapedLabelValue appends a label value as it stands between double quotes: backslash, line feed and double quote
// are escaped with a backslash.
func AppendEscapedLabelValue[T text](dst []byte, value T) []byte {
	start := 0
	for i := 0; i < len(value); i++ {
		switch value[i] {
		case '\\', '\n', '"':
			dst = append(dst, value[start:i]...)
			dst = append(dst, '\\', escapeLetter(value[i]))
			start = i + 1
		}
	}
	return append(dst, value[start:]...)
}

// AppendEscapedHelp appends a help text as it stands on a HELP line of text format 0.0.4: backslash and line feed are
// escaped, double quotes are not. (OpenMetrics escapes as [AppendEscapedLabelValue] does.)
func AppendEscapedHelp[T text](dst []byte, help T) []byte {
	start := 0
	for i := 0; i < len(help); i++ {
		switch help[i] {
		case '\\', '\n':
			dst = append(dst, help[start:i]...)
			dst = append(dst, '\\', escapeLetter(help[i]))
			start = i + 1
		}
	}
	return append(dst, help[start:]...)
}

func escapeLetter(b byte) byte {
	if b == '\n' {
		return 'n'
	}
	return b
}

// AppendMetricName appends a metric name as it stands on HELP and TYPE lines: as it is if it is a legacy name, in double
// quotes and escaped otherwise. On a line with a sample a quoted name moves inside the braces, as the first thing there:
// {"a.b",l="v"} 1; [metric.IsLegacyMetricName] tells which of the two it is.
func AppendMetricName[T text](dst []byte, name T) []byte {
	if metric.IsLegacyMetricName(name) {
		return append(dst, name...)
	}
	return appendQuoted(dst, name)
}

// AppendLabelName appends a label name as it stands between the braces: as it is if it is a legacy name, quoted otherwise.
// A name with a colon is quoted, for no parser takes it bare.
func AppendLabelName[T text](dst []byte, name T) []byte {
	if metric.IsLegacyLabelName(name) {
		return append(dst, name...)
	}
	return appendQuoted(dst, name)
}

func appendQuoted[T text](dst []byte, name T) []byte {
	dst = append(dst, '"')
	dst = AppendEscapedLabelValue(dst, name)
	return append(dst, '"')
}

// appendLabels appends labels as they stand between the braces.
func appendLabels(dst []byte, labels []Label) []byte {
	for i, l := range labels {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendLabelName(dst, l.Name)
		dst = append(dst, '=')
		dst = appendQuoted(dst, l.Value)
	}
	return dst
}

// repairHelp returns a help text that is valid UTF-8: each run of bytes that are not becomes one U+FFFD (S14). It returns
// help itself if there is nothing to repair.
func repairHelp(help []byte) []byte {
	return bytes.ToValidUTF8(help, []byte("\uFFFD"))
}
