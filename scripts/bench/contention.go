package main

import (
	"context"
	"sync"
)

// measureContention measures what pushes notice of scrapes that follow each other without a pause.
func measureContention(ctx context.Context, l *lab) ([]row, error) {
	relay, err := l.relay(ctx, storedRelay{l.sizes.large, false})
	if err != nil {
		return nil, err
	}
	requests := putAll(relay.address, l.stored(l.sizes.large), busyGroups, pushedValues)
	// A p99 wants many more than a hundred pushes, and scrapes that last longer than one of them.
	alone := func(ctx context.Context) (float64, error) {
		p, err := push(ctx, relay.address, prepared(requests), 1, l.sizes.pushes)
		return p.p99(), err
	}
	beside := func(header map[string]string) func(context.Context) (float64, error) {
		return func(ctx context.Context) (float64, error) {
			s := scrapeOnAndOn(ctx, relay.address, header)
			p, err := push(ctx, relay.address, prepared(requests), 1, l.sizes.pushes)
			if scrapeErr := s.stop(); err == nil {
				err = scrapeErr
			}
			return p.p99(), err
		}
	}
	l.say("measuring pushes beside scrapes")
	m, err := interleave(ctx, l.rounds, []arm{{"alone", alone}, {"gzip", beside(gzipText)}, {"plain", beside(plainText)}})
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, form := range []struct{ name, title string }{{"gzip", "with gzip"}, {"plain", "in plain text"}} {
		rows = append(rows, newRow("p99 of pushes during back-to-back scrapes of "+thousands(l.sizes.large)+" series "+form.title, "ms", m[form.name]).
			times(m[form.name], "without scrapes", m["alone"]).limited(limit{Bound: 3, Of: "compared", OrAbsolute: 25}))
	}
	return rows, nil
}

// A scraper scrapes without a pause until it is stopped.
type scraper struct {
	cancel context.CancelFunc
	group  sync.WaitGroup
	err    error // of the goroutine; read after group
}

// scrapeOnAndOn starts a scraper. Whoever starts it stops it.
func scrapeOnAndOn(ctx context.Context, address string, header map[string]string) *scraper {
	s := &scraper{}
	ctx, s.cancel = context.WithCancel(ctx)
	s.group.Go(func() {
		for ctx.Err() == nil {
			if _, err := scrape(ctx, address, "/metrics", header); err != nil && ctx.Err() == nil {
				s.err = err
				return
			}
		}
	})
	return s
}

// stop ends the scraper and tells what went wrong.
func (s *scraper) stop() error {
	s.cancel()
	s.group.Wait()
	return s.err
}
