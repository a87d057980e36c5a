package tunnelclient

import (
	"context"
	"errors"
	"log/slog"
	mathrand "math/rand/v2"
	"time"
)

// When the certificate of a session is replaced, by its renewal or by hand, another session takes over long before the relay would end the one that is there
// (I4). It is opened beside it, so that no scrape and no push meets an agent that is away. A relay lets the earlier session of the same process answer what it was
// asked; one of an earlier release ends it at once, which is why a quiet moment is waited for.
const (
	// handOverAfter and up to handOverSpread more is how long after another certificate was seen a session hands over.
	handOverAfter  = 10 * time.Second
	handOverSpread = time.Minute
	// handOverReserve is how long before the end of the certificate it does so at the latest.
	handOverReserve = time.Minute
	// quietWait bounds the wait for a moment without a scrape, before the other connection is opened; shortWait that for one without scrapes and changes
	// once it is open: a relay closes a connection that begins no session within 10 s.
	quietWait = 30 * time.Second
	shortWait = 3 * time.Second
	// quietLook is how often it is looked for such a moment.
	quietLook = 10 * time.Millisecond
	// lingerLimit is how long a session that has handed over goes on answering, unless its relay ends it. It is more than what a relay gives it.
	lingerLimit = 2*time.Minute + 10*time.Second
	// handOverRetry and handOverRetryMost bound the wait after a hand-over that failed, which doubles.
	handOverRetry     = time.Minute
	handOverRetryMost = 15 * time.Minute
)

// errHandedOver ends a session that has handed over and whose relay does not end it.
var errHandedOver = errors.New("another session has taken over")

// serve serves a session, and those that take over from it, until the last of them ends, and returns why.
func (l *Link) serve(ctx context.Context, s *session) error {
	for {
		l.begin(s)
		ended := make(chan error, 1)
		l.sessions.Go(func() { ended <- s.run() })
		next, err := l.follow(ctx, s, ended)
		if next == nil {
			l.mu.Lock()
			l.current = nil
			l.mu.Unlock()
			l.setStatus(err)
			return err
		}
		s = next
	}
}

// follow waits until the session has ended, and returns why, or has handed over, and returns its successor.
func (l *Link) follow(ctx context.Context, s *session, ended <-chan error) (*session, error) {
	look := time.NewTicker(lookAgain)
	defer look.Stop()
	var due time.Time // zero as long as the certificate is that of the session
	retry := handOverRetry
	for {
		select {
		case err := <-ended:
			return nil, err
		case <-look.C:
		}
		now := time.Now()
		switch {
		case l.cfg.Certificates.Material() == s.material:
			due = time.Time{}
			continue
		case due.IsZero():
			due = now.Add(handOverAfter + mathrand.N(handOverSpread))
			if latest := s.material.NotAfter().Add(-handOverReserve); latest.Before(due) {
				due = latest
			}
		}
		if now.Before(due) {
			continue
		}
		next, err := l.handOver(ctx, s)
		if err == nil {
			return next, nil
		}
		if s.ctx.Err() != nil {
			continue
		}
		due = time.Now().Add(retry)
		l.cfg.Logger.Warn("the session goes on with the earlier certificate: the one in its place is not taken yet",
			slog.String("addr", l.cfg.Address), slog.Any("err", err), slog.Time("not_after", s.material.NotAfter()), slog.Duration("retry_in", retry))
		retry = min(2*retry, handOverRetryMost)
	}
}

// handOver opens a session with the certificate of now beside s, and has it take over. On error s goes on.
func (l *Link) handOver(ctx context.Context, s *session) (*session, error) {
	s.awaitQuiet(quietWait)
	l.pace.begin(time.Now())
	a := newAttempt(ctx) // not of s, which an earlier relay ends before its welcome has come
	defer a.close()
	next, err := l.connect(ctx, a)
	if err != nil {
		return nil, err
	}
	resume := s.pause(a.ctx)
	s.awaitQuiet(shortWait)
	if err := next.attachIn(a); err != nil {
		resume()
		return nil, err
	}
	if s.changes != nil {
		s.changes.close()
	}
	l.sessions.Go(s.linger)
	return next, nil
}

// pause has the session send no changes until the function that it returns is called, and waits for the verdicts on those that it has sent. What has none soon comes
// again in the session that takes over.
func (s *session) pause(ctx context.Context) (resume func()) {
	if s.changes == nil {
		return func() {}
	}
	ctx, cancel := context.WithTimeout(ctx, shortWait)
	defer cancel()
	s.changes.feed.Pause(ctx) //nolint:errcheck // Either way all comes to a verdict, here or in the next session.
	return s.changes.feed.Resume
}

// awaitQuiet waits for a moment in which no scrape is answered, not for ever.
func (s *session) awaitQuiet(atMost time.Duration) {
	for until := time.Now().Add(atMost); s.isScraped() && time.Now().Before(until); {
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(quietLook):
		}
	}
}

func (s *session) isScraped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.running) > 0
}

// linger ends a session that has handed over, if its relay does not: another relay may answer at the address by now, and this one still asks.
func (s *session) linger() {
	select {
	case <-s.ctx.Done():
	case <-time.After(lingerLimit):
		s.awaitQuiet(quietWait)
		s.end(errHandedOver)
	}
}
