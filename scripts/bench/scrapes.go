package main

import (
	"context"
	"fmt"
	"strconv"
)

// seconds returns an arm that measures one scrape of /metrics.
func seconds(name, address string, header map[string]string) arm {
	return arm{name, func(ctx context.Context) (float64, error) {
		elapsed, err := scrape(ctx, address, "/metrics", header)
		return elapsed.Seconds(), err
	}}
}

// forms are the forms of an exposition, with the limits of a scrape of a large store.
var forms = []struct {
	name      string
	header    map[string]string
	largest   float64 // seconds for 1M series
	speedUp   float64 // how many times faster than a Pushgateway at 100,000; 0 for no limit
	titleText string
}{
	{"plain", plainText, 0.2, 20, "plain text"},
	{"gzip", gzipText, 0.4, 10, "text with gzip"},
	{"protobuf", plainProtobuf, 0.5, 0, "protobuf"},
}

// measureScrapes measures scrapes on loopback until the last byte was read.
func measureScrapes(ctx context.Context, l *lab) ([]row, error) {
	small, err := l.relay(ctx, storedRelay{l.sizes.small, false})
	if err != nil {
		return nil, err
	}
	large, err := l.relay(ctx, storedRelay{l.sizes.large, false})
	if err != nil {
		return nil, err
	}
	peer, err := l.filledPeer(ctx)
	if err != nil {
		return nil, err
	}
	var arms []arm
	for _, f := range forms {
		arms = append(arms, seconds("small "+f.name, small.address, f.header), seconds("large "+f.name, large.address, f.header))
		if peer != nil {
			arms = append(arms, seconds("peer "+f.name, peer.address, f.header))
		}
	}
	if peer != nil && l.full {
		largePeer, err := l.startFilledPeer(ctx, l.stored(l.sizes.large))
		if err != nil {
			return nil, err
		}
		defer l.end(largePeer) //nolint:errcheck // It is measured, and nobody waits for its last words.
		for _, f := range forms {
			arms = append(arms, seconds("large peer "+f.name, largePeer.address, f.header))
		}
	}
	l.say("measuring scrapes")
	m, err := interleave(ctx, l.rounds, arms)
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, f := range forms {
		rows = append(rows, l.scrapeRow(m, "small", "peer", f.name, fmt.Sprintf("scrape of %s series, %s", thousands(l.sizes.small), f.titleText), func(r row) row {
			if f.speedUp == 0 || r.Compared == nil {
				return r
			}
			return r.limited(limit{Bound: 1 / f.speedUp, Of: "compared"})
		}))
	}
	for _, f := range forms {
		rows = append(rows, l.scrapeRow(m, "large", "large peer", f.name, fmt.Sprintf("scrape of %s series, %s", thousands(l.sizes.large), f.titleText), func(r row) row {
			return r.limited(limit{Bound: f.largest, Of: "relay"})
		}))
	}
	return rows, nil
}

func (l *lab) scrapeRow(m map[string]samples, size, peer, form, what string, judge func(row) row) row {
	of := m[size+" "+form]
	r := newRow(what, "s", of)
	if beside := m[peer+" "+form]; beside != nil {
		r = r.times(of, "Pushgateway", beside)
	}
	return judge(r)
}

// thousands shows a count of series.
func thousands(n int) string {
	if n >= 1_000_000 && n%1_000_000 == 0 {
		return fmt.Sprintf("%dM", n/1_000_000)
	}
	if n >= 1000 {
		return fmt.Sprintf("%d,%03d", n/1000, n%1000)
	}
	return strconv.Itoa(n)
}
