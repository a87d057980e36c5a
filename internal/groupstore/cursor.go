package groupstore

import "encoding/binary"

// A cursor reads what was written field by field. Whatever the bytes are, it neither panics nor takes memory of their
// choosing: at the first field that does not fit it turns bad, and from then on it yields nothing.
type cursor struct {
	rest   []byte
	format byte // of the record
	bad    bool
}

func (c *cursor) fail() {
	c.rest, c.bad = nil, true
}

func (c *cursor) byte() byte {
	if len(c.rest) == 0 {
		c.fail()
		return 0
	}
	b := c.rest[0]
	c.rest = c.rest[1:]
	return b
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.rest)
	if n <= 0 {
		c.fail()
		return 0
	}
	c.rest = c.rest[n:]
	return v
}

func (c *cursor) varint() int64 {
	v, n := binary.Varint(c.rest)
	if n <= 0 {
		c.fail()
		return 0
	}
	c.rest = c.rest[n:]
	return v
}

// fixed reads a number of eight bytes.
func (c *cursor) fixed() uint64 {
	b := c.take(8)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// count reads how many things follow, each of which takes at least that many bytes.
func (c *cursor) count(least int) int {
	n := c.uvarint()
	if n > uint64(len(c.rest)/least) {
		c.fail()
		return 0
	}
	return int(n)
}

// take reads so many bytes. They alias what is read.
func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.rest) {
		c.fail()
		return nil
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b
}

// text reads what appendText wrote. It aliases what is read.
func (c *cursor) text() []byte { return c.take(c.count(1)) }
