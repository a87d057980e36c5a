package mtls

import (
	"context"
	"crypto/x509"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// listInterval is the time between two looks at the file of revocation lists. Whoever replaces it waits for somebody to be out.
const listInterval = 5 * time.Second

// ListsConfig is what [RevocationLists] need.
type ListsConfig struct {
	// File holds the certificate revocation lists. Required.
	File string
	// Certificates are the relay's: the lists must be signed by the authorities that it takes agents of. Required.
	Certificates *Reloader
	// Logger is told of every change, good or bad. Required.
	Logger *slog.Logger
	// Changed is called after other lists have come into use, in the goroutine of Run. Nil for nobody.
	Changed func()
}

// RevocationLists are certificate revocation lists (RFC 5280) of a file that is read again when it changes. They are safe for concurrent use.
//
// Lists that are out of date go on to count and let everybody else in: who gets no new list from an authority that is away for a day would lose
// all agents at once, and an attacker who can hold it up could have that. It is told, and [ListsStatus] has the date.
type RevocationLists struct {
	cfg ListsConfig

	current    atomic.Pointer[revocationLists] // never nil
	failing    atomic.Bool                     // what is in the file now is not in use
	seen       os.FileInfo                     // what the file looked like; owned by Run
	toldOfDate time.Time                       // when it was last told that the lists are out of date; owned by Run
}

// ListsStatus is what there is to tell of revocation lists.
type ListsStatus struct {
	// NextUpdate is when the first of the lists in use is out of date; zero if none says.
	NextUpdate time.Time
	// Failing says that the file as it is now is not in use.
	Failing bool
}

// CheckRevocationLists returns an error unless a relay with these files can use the lists in a file.
func CheckRevocationLists(files Files, file string) error {
	m, err := load(Relay, files)
	if err == nil {
		_, err = loadRevocationLists(file, m)
	}
	return err
}

// NewRevocationLists reads the file. It fails if that is not whole, or not signed by the authorities of the agents.
func NewRevocationLists(cfg ListsConfig) (*RevocationLists, error) {
	r := &RevocationLists{cfg: cfg, seen: stampOf(cfg.File)}
	lists, err := loadRevocationLists(cfg.File, cfg.Certificates.Material())
	if err != nil {
		return nil, err
	}
	r.use(lists)
	return r, nil
}

func (r *RevocationLists) use(lists *revocationLists) {
	r.current.Store(lists)
	attrs := []any{slog.String("file", r.cfg.File), slog.Int("certificates", lists.count)}
	if !lists.nextUpdate.IsZero() {
		attrs = append(attrs, slog.Time("next_update", lists.nextUpdate))
	}
	r.cfg.Logger.Info("revocation lists loaded", attrs...)
	for _, warning := range lists.warnings {
		r.cfg.Logger.Warn("revocation lists", slog.String("file", r.cfg.File), slog.String("warning", warning))
	}
	r.toldOfDate = time.Time{}
}

// Refuses reports whether an agent's certificate is revoked by the lists in use, or a CA above it, and why; chains are the verified ones. It
// looks at no file.
func (r *RevocationLists) Refuses(chains [][]*x509.Certificate) (reason string, refused bool) {
	return r.current.Load().refuses(chains)
}

// Status returns what there is to tell, for metrics.
func (r *RevocationLists) Status() ListsStatus {
	return ListsStatus{NextUpdate: r.current.Load().nextUpdate, Failing: r.failing.Load()}
}

// Run looks at the file every 5 s until ctx ends, and returns nil. Lists that cannot be used leave the earlier ones in use.
func (r *RevocationLists) Run(ctx context.Context) error {
	look := time.NewTicker(listInterval)
	defer look.Stop()
	for {
		r.tellOfDate(time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			r.refresh()
		}
	}
}

// refresh reads the file if it changed. What is broken is tried again at every look, since the authorities may change as well, but is told once
// per change.
func (r *RevocationLists) refresh() {
	seen := stampOf(r.cfg.File)
	changed := !sameFile(seen, r.seen)
	if !changed && !r.failing.Load() {
		return
	}
	r.seen = seen
	lists, err := loadRevocationLists(r.cfg.File, r.cfg.Certificates.Material())
	if err != nil {
		r.failing.Store(true)
		if changed {
			r.cfg.Logger.Error("changed revocation lists cannot be used, keeping the previous ones", slog.Any("err", err))
		}
		return
	}
	r.failing.Store(false)
	r.use(lists)
	if r.cfg.Changed != nil {
		r.cfg.Changed()
	}
}

// tellOfDate warns every day of lists that are out of date.
func (r *RevocationLists) tellOfDate(now time.Time) {
	lists := r.current.Load()
	if !lists.isOutOfDate(now) || now.Sub(r.toldOfDate) < expiryRepeat {
		return
	}
	r.toldOfDate = now
	r.cfg.Logger.Warn("a revocation list is out of date: it goes on to count, and who was revoked since is let in; get a newer one from its authority",
		slog.String("file", r.cfg.File), slog.String("issuer", clip(lists.issuer)), slog.Time("next_update", lists.nextUpdate))
}
