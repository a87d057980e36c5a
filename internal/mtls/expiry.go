package mtls

import (
	"context"
	"log/slog"
	"time"
)

const (
	// expiryNotice is how long before a certificate ends its warnings begin (T8).
	expiryNotice = 30 * 24 * time.Hour
	// expiryRepeat is the time between two warnings of one certificate: often enough to be seen by whoever looks at a log
	// once a day, too seldom to drown it.
	expiryRepeat = 24 * time.Hour
	// watchInterval is how often the files are looked at while nobody else asks: an agent whose session lasts for months
	// shakes no hands.
	watchInterval = time.Minute
)

// Run looks at the files now and then until ctx ends, so that a change is told and taken over when nobody asks, and warns
// of a certificate that ends within 30 days: when it is loaded, and every day until another has taken its place. It
// returns nil.
func (r *Reloader) Run(ctx context.Context) error {
	look := time.NewTicker(watchInterval)
	defer look.Stop()
	var warnedOf *Material
	var warnedAt time.Time
	for {
		m, now := r.Material(), time.Now()
		if m.NotAfter().Sub(now) < expiryNotice && (m != warnedOf || now.Sub(warnedAt) >= expiryRepeat) {
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

func (r *Reloader) warnOfExpiry(m *Material, now time.Time) {
	log := r.log.With(slog.String("cert_file", r.files.CertFile), slog.Time("not_after", m.NotAfter()), slog.String("what_to_do", r.renewal))
	if now.After(m.NotAfter()) {
		log.Warn("certificate has ended")
		return
	}
	log.Warn("certificate ends soon")
}
