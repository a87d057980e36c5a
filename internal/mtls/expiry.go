package mtls

import (
	"context"
	"log/slog"
	"time"
)

// Backdate is how long before it was issued a certificate of our own authority begins, for sites whose clocks are slow.
const Backdate = 24 * time.Hour

const (
	// longestNotice is how long before a certificate ends its warnings begin (T8), noticeShare which part of its life that is at
	// most: one that lives for a week is not a cause for concern all its life.
	longestNotice = 30 * 24 * time.Hour
	noticeShare   = 3
	// expiryRepeat is the time between two warnings of one certificate: often enough to be seen by whoever looks at a log
	// once a day, too seldom to drown it.
	expiryRepeat = 24 * time.Hour
	// watchInterval is how often the files are looked at while nobody else asks: an agent whose session lasts for months
	// shakes no hands.
	watchInterval = time.Minute
)

// Run looks at the files now and then until ctx ends, so that a change is told and taken over when nobody asks, and warns
// of a certificate that ends within 30 days, or within the last third of its life: when it is loaded, and every day until another has taken its place. It
// returns nil.
func (r *Reloader) Run(ctx context.Context) error {
	look := time.NewTicker(watchInterval)
	defer look.Stop()
	var warnedOf *Material
	var warnedAt time.Time
	for {
		m, now := r.Material(), time.Now()
		if m.NotAfter().Sub(now) < m.expiryNotice() && (m != warnedOf || now.Sub(warnedAt) >= expiryRepeat) {
			r.warnOfExpiry(m, now)
			warnedOf, warnedAt = m, now
		}
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
	}
}

// expiryNotice is how long before its end the certificate is warned of.
func (m *Material) expiryNotice() time.Duration {
	life := m.NotAfter().Sub(m.cert.Leaf.NotBefore)
	return min(longestNotice, life/noticeShare)
}

func (r *Reloader) warnOfExpiry(m *Material, now time.Time) {
	log := r.log.With(slog.String("cert_file", r.files.CertFile), slog.Time("not_after", m.NotAfter()), slog.String("what_to_do", r.renewal))
	if now.After(m.NotAfter()) {
		log.Warn("certificate has ended")
		return
	}
	log.Warn("certificate ends soon")
}
