package webpage

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"time"
)

// A Moment is a time as people read it. All is empty for the zero time.
type Moment struct {
	Exact    string // for scripts and for the careful
	Absolute string // "2026-11-30 04:00:00 UTC"
	Relative string // "3m 12s ago", "in 14d 2h"
}

// MomentOf returns a time as it is told at another.
func MomentOf(t, now time.Time) Moment {
	if t.IsZero() {
		return Moment{}
	}
	m := Moment{Exact: t.UTC().Format("2006-01-02T15:04:05.000Z"), Absolute: t.UTC().Format("2006-01-02 15:04:05 UTC")}
	if ahead := t.Sub(now); ahead >= time.Second {
		m.Relative = "in " + Span(ahead)
	} else {
		m.Relative = Span(now.Sub(t)) + " ago"
	}
	return m
}

// Span writes a duration with its two largest units, of which the smaller one is left out where it is 0.
func Span(d time.Duration) string {
	units := []struct {
		size time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}}
	for i, unit := range units {
		if d < unit.size {
			continue
		}
		text := fmt.Sprintf("%d%s", d/unit.size, unit.name)
		if i+1 < len(units) && d%unit.size >= units[i+1].size {
			text += fmt.Sprintf(" %d%s", d%unit.size/units[i+1].size, units[i+1].name)
		}
		return text
	}
	return "0s"
}

// Duration writes a short duration with three digits: 1.23ms.
func Duration(d time.Duration) string {
	if d <= 0 {
		return "0s"
	}
	digit := time.Duration(math.Pow10(max(int(math.Log10(float64(d)))-2, 0)))
	return d.Round(digit).String()
}

// Bytes writes a size with its binary unit: 1.5 MiB.
func Bytes[T int | int64 | uint64 | float64](n T) string {
	size, unit := float64(n), 0
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for size >= 1000 && unit < len(units)-1 {
		size, unit = size/1024, unit+1
	}
	if unit == 0 || size >= 100 {
		return fmt.Sprintf("%.0f %s", size, units[unit])
	}
	return fmt.Sprintf("%.1f %s", size, units[unit])
}

// Count writes a number with thin spaces between its thousands.
func Count[T int | int64 | uint64](n T) string {
	text := strconv.FormatInt(int64(n), 10)
	start := 0
	if n < 0 {
		start = 1
	}
	for at := len(text) - 3; at > start; at -= 3 {
		text = text[:at] + "\u202f" + text[at:]
	}
	return text
}

// Plural returns a count with its noun.
func Plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return Count(n) + " " + many
}

// funcs are those that every template has.
var funcs = template.FuncMap{"count": Count[int], "plural": Plural, "bytes": Bytes[int64]}
