package groupstore

import (
	"bytes"
	"errors"

	"pushrelay/internal/metric"
)

// What comes from a disk was checked by whoever read it, but a store that renders what it has not written must not fail at
// it. So every encoding and every run of values is walked once before the code that trusts them sees it.

var (
	errSkeleton = errors.New("a set of series makes no sense")
	errHoles    = errors.New("a set of series has other grouping labels than its group")
	errValues   = errors.New("values do not fit their series")
)

// inspected is what a walk through an encoding finds.
type inspected struct {
	typ            metric.Type
	flags          byte
	metrics, lines int
}

// inspect walks an encoding, which need not be one.
func inspect(encoding []byte) (inspected, error) {
	c := &cursor{rest: encoding}
	k := inspected{flags: c.byte(), typ: metric.Type(c.byte())}
	name := c.text()
	if k.flags&hasHelp != 0 {
		c.text()
	}
	if k.flags&hasUnit != 0 {
		c.text()
	}
	labels := metricLabels{holes: c.count(1)}
	for range labels.holes {
		c.text()
	}
	k.metrics = c.count(1)
	known := k.flags <= hasHelp|hasUnit|hasCreated|hasExtra && k.typ.Known()
	if c.bad || !known || isTimeFamily(name) {
		return inspected{}, errSkeleton
	}
	for i := range k.metrics {
		if k.lines += labels.next(c, i == 0, !k.typ.Simple()); c.bad {
			return inspected{}, errSkeleton
		}
	}
	if len(c.rest) > 0 {
		return inspected{}, errSkeleton
	}
	return k, nil
}

// cutHeading cuts an encoding, which need not be one, behind its heading.
func cutHeading(encoding []byte) (head, rest []byte, ok bool) {
	c := &cursor{rest: encoding}
	flags := c.byte()
	c.byte()
	c.text()
	if flags&hasHelp != 0 {
		c.text()
	}
	if flags&hasUnit != 0 {
		c.text()
	}
	for range c.count(1) {
		c.text()
	}
	if metrics := c.count(1); metrics > 0 {
		c.byte()
		for range c.count(1) {
			if c.uvarint() == 0 {
				c.text()
			}
		}
	}
	n := len(encoding) - len(c.rest)
	return encoding[:n], encoding[n:], !c.bad
}

// metricLabels is what a metric may take over from the one before.
type metricLabels struct {
	holes    int
	literals int // labels with a value of their own
	bounds   int
}

// next walks one metric and returns its exposition lines.
func (m *metricLabels) next(c *cursor, first, bounded bool) (lines int) {
	flags := c.byte()
	if flags > sameLayout|sameBounds || first && flags&sameLayout != 0 {
		c.fail()
		return 0
	}
	if flags&sameLayout == 0 {
		m.literals = 0
		last := uint64(0) // holes rise, since labels are sorted
		for range c.count(1) {
			ref := c.uvarint()
			if ref == 0 {
				c.text()
				m.literals++
				continue
			}
			if ref <= last || ref > uint64(m.holes) {
				c.fail()
			}
			last = ref
		}
	}
	for range m.literals {
		if c.text(); c.bad {
			return 0
		}
	}
	if !bounded {
		return 1
	}
	if flags&sameBounds == 0 {
		m.bounds = c.count(8)
		c.take(8 * m.bounds)
	}
	return m.bounds + 2
}

// fits says whether values are such as a part with that skeleton has.
func (k *inspected) fits(values []byte) bool {
	c := &cursor{rest: values}
	if k.flags&hasCreated != 0 {
		c.take(8 * k.metrics)
	}
	if k.flags&hasExtra != 0 {
		for range k.metrics {
			switch c.byte() {
			case 0:
			case extraClassic, extraNative:
				c.text()
			default:
				c.fail()
			}
			if c.bad {
				return false
			}
		}
	}
	if c.bad || bytes.Count(c.rest, []byte{'\n'}) != k.lines {
		return false
	}
	return areTokens(c.rest)
}

// areTokens says whether the bytes are numbers as the store keeps them, each followed by a line feed.
func areTokens(b []byte) bool {
	start := 0
	for i, char := range b {
		if char == '\n' {
			if i == start {
				return false
			}
			start = i + 1
			continue
		}
		if !tokenChars[char] {
			return false
		}
	}
	return start == len(b)
}

// tokenChars are those that a rendered number can have.
var tokenChars = func() (chars [256]bool) {
	for _, char := range "0123456789+-.eNaIinf" {
		chars[char] = true
	}
	return chars
}()
