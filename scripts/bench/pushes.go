package main

import (
	"context"
)

const (
	// busyGroups are the groups that are pushed over and over, and pushedValues the bodies of each.
	busyGroups   = 256
	pushedValues = 4
	concurrent   = 16
)

// putAll returns prepared pushes of so many groups of the shape, spread over all of it, each with several bodies.
func putAll(address string, s shape, groups, values int) [][]byte {
	var requests [][]byte
	for salt := range values {
		for i := range groups {
			group := i * max(1, s.groups/groups)
			requests = append(requests, appendPut(nil, address, s.path(group), textType, s.body(group, salt+1)))
		}
	}
	return requests
}

// putProtobuf is putAll with delimited protobuf.
func putProtobuf(address string, s shape, groups, values int) ([][]byte, error) {
	var requests [][]byte
	for salt := range values {
		for i := range groups {
			group := i * max(1, s.groups/groups)
			body, err := toProtobuf(s.body(group, salt+1))
			if err != nil {
				return nil, err
			}
			requests = append(requests, appendPut(nil, address, s.path(group), protobufType, body))
		}
	}
	return requests, nil
}

// putChanging is putAll with series that change from push to push of a group.
func putChanging(address string, s shape, groups, values int) [][]byte {
	var requests [][]byte
	fresh := shape{groups: s.groups, lines: s.lines, unique: true}
	for salt := range values {
		for i := range groups {
			group := i * max(1, s.groups/groups)
			requests = append(requests, appendPut(nil, address, s.path(group), textType, fresh.body(group*values+salt, salt+1)))
		}
	}
	return requests
}

// rate returns an arm that measures pushes per second.
func rate(name, address string, requests [][]byte, connections, count int) arm {
	return arm{name, func(ctx context.Context) (float64, error) {
		p, err := push(ctx, address, prepared(requests), connections, count)
		return p.perSecond(), err
	}}
}

// cost returns an arm that measures microseconds per push.
func cost(name, address string, requests [][]byte, connections, count int) arm {
	return arm{name, func(ctx context.Context) (float64, error) {
		p, err := push(ctx, address, prepared(requests), connections, count)
		return p.microseconds(), err
	}}
}

// measurePushes measures the first limits of the grouping store: what a checked push costs, over HTTP and with everything
// that belongs to it.
func measurePushes(ctx context.Context, l *lab) ([]row, error) {
	ofPeer, err := measurePushesBesidePeer(ctx, l)
	if err != nil {
		return nil, err
	}
	ofSizes, err := measurePushesBySize(ctx, l)
	if err != nil {
		return nil, err
	}
	ofFormats, err := measurePushesByBody(ctx, l)
	if err != nil {
		return nil, err
	}
	return append(append(ofPeer, ofSizes...), ofFormats...), nil
}

// measurePushesBesidePeer compares the rates at sizes.small series: of a relay that keeps what it acknowledges on disk, of
// one that keeps everything in memory as a Pushgateway does, and of a Pushgateway.
func measurePushesBesidePeer(ctx context.Context, l *lab) ([]row, error) {
	durable, err := l.relay(ctx, storedRelay{l.sizes.small, true})
	if err != nil {
		return nil, err
	}
	volatile, err := l.relay(ctx, storedRelay{l.sizes.small, false})
	if err != nil {
		return nil, err
	}
	peer, err := l.filledPeer(ctx)
	if err != nil {
		return nil, err
	}
	s := l.stored(l.sizes.small)
	onDisk, inMemory := putAll(durable.address, s, busyGroups, pushedValues), putAll(volatile.address, s, busyGroups, pushedValues)
	arms := []arm{
		rate("disk 1", durable.address, onDisk, 1, l.sizes.pushes), rate("disk 16", durable.address, onDisk, concurrent, 2*l.sizes.pushes),
		rate("memory 1", volatile.address, inMemory, 1, l.sizes.pushes), rate("memory 16", volatile.address, inMemory, concurrent, 2*l.sizes.pushes),
	}
	if peer != nil {
		requests := putAll(peer.address, s, busyGroups, pushedValues)
		arms = append(arms, rate("peer 1", peer.address, requests, 1, l.sizes.peerPushes), rate("peer 16", peer.address, requests, concurrent, max(concurrent, l.sizes.peerPushes)))
	}
	l.say("measuring checked pushes")
	m, err := interleave(ctx, l.rounds, arms)
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, c := range []struct{ name, connections string }{{" 1", "1 connection"}, {" 16", "16 connections"}} {
		for _, kept := range []string{"disk", "memory"} {
			of := m[kept+c.name]
			r := newRow("checked pushes, "+thousands(l.sizes.small)+" series stored, "+c.connections+", kept "+keptIn[kept], "pushes/s", of)
			if peer != nil {
				r = r.times(of, "Pushgateway", m["peer"+c.name]).limited(limit{Bound: 500, Of: "compared", Least: true})
			}
			rows = append(rows, r)
		}
	}
	return rows, nil
}

var keptIn = map[string]string{"disk": "on disk", "memory": "in memory"}

// measurePushesBySize compares the cost in an empty store and in a large one. Both keep everything in memory: a disk would
// cover what is to be seen.
func measurePushesBySize(ctx context.Context, l *lab) ([]row, error) {
	empty, err := l.relay(ctx, storedRelay{0, false})
	if err != nil {
		return nil, err
	}
	large, err := l.relay(ctx, storedRelay{l.sizes.large, false})
	if err != nil {
		return nil, err
	}
	// The empty store has to stay one: few groups, with as many bodies in all.
	few := putAll(empty.address, l.stored(l.sizes.large), concurrent, busyGroups*pushedValues/concurrent)
	many := putAll(large.address, l.stored(l.sizes.large), busyGroups, pushedValues)
	l.say("measuring pushes into an empty and a large store")
	m, err := interleave(ctx, l.rounds, []arm{
		cost("empty 1", empty.address, few, 1, l.sizes.pushes), cost("large 1", large.address, many, 1, l.sizes.pushes),
		cost("empty 16", empty.address, few, concurrent, 2*l.sizes.pushes), cost("large 16", large.address, many, concurrent, 2*l.sizes.pushes),
	})
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, c := range []struct{ name, connections string }{{" 1", "1 connection"}, {" 16", "16 connections"}} {
		rows = append(rows, newRow("time per push, "+thousands(l.sizes.large)+" series stored, "+c.connections, "µs", m["large"+c.name]).
			times(m["large"+c.name], "empty store", m["empty"+c.name]).limited(limit{Bound: 1.3, Of: "compared"}))
	}
	return rows, nil
}

// measurePushesByBody compares formats, and the same series with series that were not there before.
func measurePushesByBody(ctx context.Context, l *lab) ([]row, error) {
	relay, err := l.relay(ctx, storedRelay{l.sizes.small, false})
	if err != nil {
		return nil, err
	}
	s := l.stored(l.sizes.small)
	protobuf, err := putProtobuf(relay.address, s, busyGroups, pushedValues)
	if err != nil {
		return nil, err
	}
	text := putAll(relay.address, s, busyGroups, pushedValues)
	l.say("measuring bodies")
	m, err := interleave(ctx, l.rounds, []arm{
		cost("text", relay.address, text, 1, l.sizes.pushes),
		cost("protobuf", relay.address, protobuf, 1, l.sizes.pushes),
		cost("text again", relay.address, text, 1, l.sizes.pushes),
		cost("changing", relay.address, putChanging(relay.address, s, busyGroups, pushedValues), 1, l.sizes.pushes),
	})
	if err != nil {
		return nil, err
	}
	// The groups have their old series again: what comes later finds the store as it was.
	if _, err := push(ctx, relay.address, prepared(text), concurrent, len(text)); err != nil {
		return nil, err
	}
	return []row{
		newRow("time per push in delimited protobuf", "µs", m["protobuf"]).
			times(m["protobuf"], "text", m["text"]).limited(limit{Bound: 2, Of: "compared"}),
		newRow("time per push of series that the group has not held before", "µs", m["changing"]).
			times(m["changing"], "the same series", m["text again"]),
	}, nil
}
