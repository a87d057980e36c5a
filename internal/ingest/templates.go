package ingest

import (
	"bytes"
	"hash/maphash"
	"slices"
	"sync"
)

const (
	// templatesLeast is what templates may always take, and templatesShare the part of the store that they may take
	// together beyond that.
	templatesLeast = 1 << 20
	templatesShare = 20

	// templatesPerHead is how many templates may begin alike, and are tried for one body.
	templatesPerHead = 4

	// templatesOneIn is how often a template is made all the same when so many begin alike, and headsSeen how many heads
	// are remembered that had none. Both keep bodies that are never the same twice from being made templates of in vain.
	templatesOneIn = 64
	headsSeen      = 4096
)

// templates is a cache of templates by their head: what stands before the first value. It is safe for concurrent use.
type templates struct {
	seed maphash.Seed // so that nobody can push heads that fall together

	mu     sync.RWMutex           // guards what follows
	byHead map[uint64][]*template // the slices are replaced and never changed
	bytes  int64
	seen   [headsSeen]uint64
	asked  int // for templates beside as many as may begin alike
	made   int // so far, for tests of what they cost
}

func newTemplates() *templates {
	return &templates{seed: maphash.MakeSeed(), byHead: make(map[uint64][]*template)}
}

// head returns what templates for the body are looked up by.
func (c *templates) head(body []byte) uint64 {
	for start := 0; start < len(body); {
		length := bytes.IndexByte(body[start:], '\n')
		if length < 0 {
			break
		}
		if v, ok := valueOf(body[start : start+length]); ok {
			return maphash.Bytes(c.seed, body[:start+v.start])
		}
		start += length + 1
	}
	return maphash.Bytes(c.seed, body)
}

// candidates returns the templates that begin like the body does. The slice must not be changed.
func (c *templates) candidates(head uint64) []*template {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.byHead[head]
}

// worthwhile says whether a template should be made of a body with that head. It is not the first time, for then the body
// may be one that never comes again.
func (c *templates) worthwhile(head uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.byHead[head]) == templatesPerHead {
		c.asked++
		return c.asked%templatesOneIn == 0
	}
	seen := &c.seen[head%headsSeen]
	again := *seen == head
	*seen = head
	return again
}

// add keeps a template and forgets others, whichever, as long as all together take more than the limit.
func (c *templates) add(head uint64, t *template, limit int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(c.byHead[head]), func(old *template) bool {
		if !t.replaces(old) {
			return false
		}
		c.bytes -= int64(old.size)
		return true
	})
	if len(list) == templatesPerHead {
		c.bytes -= int64(list[0].size)
		list = slices.Delete(list, 0, 1)
	}
	c.byHead[head] = append(list, t)
	c.bytes += int64(t.size)
	c.made++
	for other, list := range c.byHead { // maps are walked in no order
		if c.bytes <= limit {
			return
		}
		if other == head {
			continue
		}
		for _, t := range list {
			c.bytes -= int64(t.size)
		}
		delete(c.byHead, other)
	}
}
