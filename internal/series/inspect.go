package series

import (
	"bytes"
	"errors"

	"pushrelay/internal/fields"
	"pushrelay/internal/metric"
)

// What comes from a disk was checked by whoever read it, but a store that renders what it has not written must not fail at
// it. So every encoding and every run of values is walked once before the code that trusts them sees it.

// errEncoding is about an encoding that is none.
var errEncoding = errors.New("a set of series makes no sense")

// inspect walks an encoding, which need not be one, and returns its exposition lines.
func inspect(encoding []byte) (lines int, err error) {
	c := fields.NewReader(encoding)
	flags, typ := c.Byte(), metric.Type(c.Byte())
	name := c.Text()
	if flags&hasHelp != 0 {
		c.Text()
	}
	if flags&hasUnit != 0 {
		c.Text()
	}
	labels := metricLabels{holes: c.Count(1)}
	for range labels.holes {
		c.Text()
	}
	metrics := c.Count(1)
	known := flags <= hasHelp|hasUnit|hasCreated|hasExtra && typ.Known()
	if c.Bad || !known || isTimeFamily(name) {
		return 0, errEncoding
	}
	for i := range metrics {
		if lines += labels.next(c, i == 0, !typ.Simple()); c.Bad {
			return 0, errEncoding
		}
	}
	if len(c.Rest) > 0 {
		return 0, errEncoding
	}
	return lines, nil
}

// cutHeading cuts an encoding, which need not be one, behind its heading.
func cutHeading(encoding []byte) (head, rest []byte, ok bool) {
	c := fields.NewReader(encoding)
	flags := c.Byte()
	c.Byte()
	c.Text()
	if flags&hasHelp != 0 {
		c.Text()
	}
	if flags&hasUnit != 0 {
		c.Text()
	}
	for range c.Count(1) {
		c.Text()
	}
	if metrics := c.Count(1); metrics > 0 {
		c.Byte()
		for range c.Count(1) {
			if c.Uvarint() == 0 {
				c.Text()
			}
		}
	}
	n := len(encoding) - len(c.Rest)
	return encoding[:n], encoding[n:], !c.Bad
}

// metricLabels is what a metric may take over from the one before.
type metricLabels struct {
	holes    int
	literals int // labels with a value of their own
	bounds   int
}

// next walks one metric and returns its exposition lines.
func (m *metricLabels) next(c *fields.Reader, first, bounded bool) (lines int) {
	flags := c.Byte()
	if flags > sameLayout|sameBounds || first && flags&sameLayout != 0 {
		c.Fail()
		return 0
	}
	if flags&sameLayout == 0 {
		m.literals = 0
		last := uint64(0) // holes rise, since labels are sorted
		for range c.Count(1) {
			ref := c.Uvarint()
			if ref == 0 {
				c.Text()
				m.literals++
				continue
			}
			if ref <= last || ref > uint64(m.holes) {
				c.Fail()
			}
			last = ref
		}
	}
	for range m.literals {
		if c.Text(); c.Bad {
			return 0
		}
	}
	if !bounded {
		return 1
	}
	if flags&sameBounds == 0 {
		m.bounds = c.Count(8)
		c.Bytes(8 * m.bounds)
	}
	return m.bounds + 2
}

// Fits says whether values are such as the set has. They need not be any.
func (k *Set) Fits(values []byte) bool {
	c := fields.NewReader(values)
	if k.flags&hasCreated != 0 {
		c.Bytes(8 * int(k.metrics))
	}
	if k.flags&hasExtra != 0 {
		for range k.metrics {
			switch c.Byte() {
			case 0:
			case extraClassic, extraNative:
				c.Text()
			default:
				c.Fail()
			}
			if c.Bad {
				return false
			}
		}
	}
	if c.Bad || bytes.Count(c.Rest, []byte{'\n'}) != int(k.lines) {
		return false
	}
	return areTokens(c.Rest)
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
