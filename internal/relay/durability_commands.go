package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/version"

	"pushrelay/internal/commandline"
	"pushrelay/internal/datadir"
	"pushrelay/internal/keep"
	"pushrelay/internal/ledger"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/wal"
)

// A Keep is a data dir as commands see it that are about the store in it.
type Keep struct {
	// DataDir is the data dir.
	DataDir string
	// NoLock does without the lock on the store, as Options.DataDirNoLock does.
	NoLock bool
	// Progress is told of long work; nil for nobody.
	Progress func(what string, done, total int64)
}

func (k Keep) place(what string) keep.Place {
	p := keep.Place{Dir: storeDir(k.DataDir), Release: version.Version, NoLock: k.NoLock}
	if k.Progress != nil {
		p.Progress = func(done, total int64) { k.Progress(what, done, total) }
	}
	return p
}

// check refuses a data dir that somebody else has led elsewhere, and that of a member of a cluster, which has the store.
func (k Keep) check() error {
	err := datadir.CheckLinks(k.DataDir)
	if err == nil {
		err = needsMember(k.DataDir)
	}
	if err != nil {
		return fmt.Errorf("--data.dir %s: %w", k.DataDir, err)
	}
	return nil
}

// existing refuses what check does, and a data dir without a store, so that a misspelled one is not made.
func (k Keep) existing() error {
	if err := k.check(); err != nil {
		return err
	}
	if _, err := os.Stat(storeDir(k.DataDir)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--data.dir %s holds no store", k.DataDir)
	}
	return nil
}

// A Backup is what was backed up.
type Backup struct {
	File   string `json:"file"`
	Groups int    `json:"groups"`
	Series int    `json:"series"`
	// Ledger is what the ledger has that went along; nil if none did, since a relay of an earlier release runs.
	Ledger *LedgerSummary `json:"ledger"`
	// Source says who has given it.
	Source Source `json:"source"`
}

// A LedgerSummary says what a ledger consists of.
type LedgerSummary struct {
	// Certificates were issued, and are not forgotten yet.
	Certificates int `json:"certificates"`
	// Revocations stand, those of names and those of single certificates.
	Revocations int `json:"revocations"`
}

func summaryOf(l *ledger.State) *LedgerSummary {
	if l == nil {
		return nil
	}
	s := &LedgerSummary{}
	for _, a := range l.Agents() {
		s.Certificates += len(a.Certificates)
		s.Revocations += len(a.Serials)
		if a.Revoked != nil {
			s.Revocations++
		}
	}
	return s
}

// Words says it to people.
func (s *LedgerSummary) Words() string {
	return fmt.Sprintf("a ledger of %s, %s", commandline.Count(s.Certificates, "certificate"), commandline.Count(s.Revocations, "revocation"))
}

// Backup writes the store and the ledger into one file: as the relay has them that runs on the data dir, or as they lie there. A relay that cannot be asked is no
// reason to do without: what it has acknowledged lies there, but for a member of a cluster.
func (k Keep) Backup(ctx context.Context, file string) (Backup, error) {
	unready := k.existing()
	if unready != nil && !errors.Is(unready, ErrNeedsRelay) {
		return Backup{}, unready
	}
	running, err := relayapi.NewControl(k.DataDir)
	if err != nil {
		return Backup{}, err
	}
	source := FromRelay
	s, err := keep.ReceiveBackup(ctx, file, running.Backup)
	if isAbsent(err) || errors.Is(err, relayapi.ErrNoRelay) {
		if unready != nil {
			return Backup{}, unready
		}
		source = FromFiles
		s, err = k.backUpFiles(ctx, file)
	}
	if err != nil {
		return Backup{}, explainStoreError(k.DataDir, explainControl(err))
	}
	return Backup{File: file, Groups: s.Groups, Series: s.Series, Ledger: summaryOf(s.Ledger), Source: source}, nil
}

// backUpFiles writes what lies in the data dir.
func (k Keep) backUpFiles(ctx context.Context, file string) (keep.Summary, error) {
	own, err := ledger.Read(k.DataDir)
	if err != nil {
		return keep.Summary{}, err
	}
	return keep.Backup(ctx, k.place("backing up"), own, file)
}

// Restore makes the store of an empty data dir from a backup, has the ledger there say what that of the backup says as well, and says on out what they hold.
func (k Keep) Restore(ctx context.Context, file string, out io.Writer) error {
	if err := k.check(); err != nil {
		return err
	}
	var joined *ledger.State
	s, err := keep.Restore(ctx, k.place("restoring"), file, func(l *ledger.State) (err error) {
		joined, err = ledger.PutBack(ledger.Config{Dir: k.DataDir, Release: version.Version, NoLock: k.NoLock}, l, time.Now())
		return err
	})
	if backup, ok := errors.AsType[*keep.BackupError](err); ok {
		return fmt.Errorf("%w; the data dir was not touched: restore another backup", backup)
	}
	if err != nil {
		return explainStoreError(k.DataDir, err)
	}
	_, err = fmt.Fprintf(out, "%s: %s, %d series, under a new store id; %s\n", k.DataDir, commandline.Count(s.Groups, "group"), s.Series, k.ofLedger(joined))
	return err
}

// ofLedger says what became of the ledger; nil is that of a backup without.
func (k Keep) ofLedger(joined *ledger.State) string {
	switch {
	case joined != nil:
		return summaryOf(joined).Words()
	case ledger.Exists(k.DataDir):
		return "the backup is of an earlier release and has no ledger: that of the data dir stays as it is"
	default:
		return "the backup is of an earlier release and has no ledger, and neither has the data dir: who was revoked is let in. Before the start put ledger.jsonl back from a copy, or revoke again who must stay out (relay-server agents revoke)"
	}
}

// Repair makes a damaged store one that a relay starts with, and says on out what was kept and what is missing.
func (k Keep) Repair(ctx context.Context, out io.Writer) error {
	if err := k.existing(); err != nil {
		return err
	}
	r, err := keep.Repair(ctx, k.place("repairing"))
	if err != nil {
		return explainStoreError(k.DataDir, err)
	}
	lines := r.Report("store", "relay-server acknowledge-loss --data.dir "+strconv.Quote(k.DataDir))
	if r.Loss != nil {
		lines = append(lines, "the next start gives the store a new id, so that agents send again what they have")
	}
	_, err = fmt.Fprintln(out, strings.Join(lines, "\n"))
	return err
}

// AcknowledgeLoss takes note of what the store has lost, also while a relay runs on the data dir, and says on out what that is.
func (k Keep) AcknowledgeLoss(out io.Writer) error {
	if err := k.existing(); err != nil {
		return err
	}
	losses, err := keep.AcknowledgeLoss(k.place(""))
	if err != nil {
		return explainStoreError(k.DataDir, err)
	}
	_, err = fmt.Fprintln(out, strings.Join(wal.ReportAcknowledged(losses), "\n"))
	return err
}
