package main

import (
	"context"
)

// memoryOf is what a program holds for what was pushed to it.
type memoryOf struct{ heap, resident float64 } // bytes per series

// measureMemory fills programs and looks at what they hold. One look each: a heap after a collection does not vary.
func measureMemory(ctx context.Context, l *lab) ([]row, error) {
	large := l.sizes.large
	var rows []row
	for _, c := range []struct {
		shape shape
		heap  limit
	}{
		{shape{groups: large / 100, lines: 100}, limit{Bound: 60, Of: "relay"}},
		{shape{groups: large / 10, lines: 10}, limit{Bound: 110, Of: "relay"}},
		{shape{groups: large / 100, lines: 100, unique: true}, limit{Bound: 0.4, Of: "compared"}},
		{shape{groups: large / 100, lines: 100, unique: true, ownNames: true}, limit{Bound: 0.4, Of: "compared"}},
	} {
		l.say("filling with %s", c.shape)
		relay, err := l.memory(ctx, c.shape, func(ctx context.Context) (*program, error) { return l.startRelay(ctx, "") })
		if err != nil {
			return nil, err
		}
		heap := newRow("heap, "+c.shape.String(), "B/series", samples{relay.heap})
		resident := newRow("resident, "+c.shape.String(), "B/series", samples{relay.resident})
		if l.pushgateway != "" {
			peer, err := l.memory(ctx, c.shape, func(ctx context.Context) (*program, error) {
				return l.startPeer(ctx, "", "--push.disable-consistency-check")
			})
			if err != nil {
				return nil, err
			}
			heap = heap.times(samples{relay.heap}, "Pushgateway", samples{peer.heap})
			resident = resident.times(samples{relay.resident}, "Pushgateway", samples{peer.resident})
		}
		if c.heap.Of == "relay" || heap.Compared != nil {
			heap = heap.limited(c.heap)
		}
		rows = append(rows, heap, resident)
	}
	return rows, nil
}

// memory starts a program, fills it, scrapes it once, and returns what it holds more than before. The program is ended.
func (l *lab) memory(ctx context.Context, s shape, start func(context.Context) (*program, error)) (memoryOf, error) {
	p, err := start(ctx)
	if err != nil {
		return memoryOf{}, err
	}
	emptyHeap, err := p.heapBytes(ctx)
	if err != nil {
		return memoryOf{}, err
	}
	emptyResident, err := p.residentBytes()
	if err != nil {
		return memoryOf{}, err
	}
	if err := l.fillAndCheck(ctx, p, s); err != nil {
		return memoryOf{}, err
	}
	resident, err := p.residentBytes() // before the collections that heapBytes asks for
	if err != nil {
		return memoryOf{}, err
	}
	heap, err := p.heapBytes(ctx)
	if err != nil {
		return memoryOf{}, err
	}
	series := float64(s.series())
	return memoryOf{heap: (heap - emptyHeap) / series, resident: (resident - emptyResident) / series}, l.end(p)
}
