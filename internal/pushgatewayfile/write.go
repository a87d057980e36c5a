package pushgatewayfile

import (
	"bufio"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/datadir"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/series"
)

// Written counts what a file holds.
type Written struct {
	// Groups and Families are those that are in the file.
	Groups, Families int
	// Hidden counts the families that are not, because the store does not expose them: a Pushgateway cannot serve any
	// family once one does not fit.
	Hidden int
}

// The types of the file when it is written; see fileGroup.
type (
	newGroup struct {
		Labels  map[string]string
		Metrics map[string]newFamily
	}
	newFamily struct {
		Timestamp            time.Time
		GobbableMetricFamily stored
	}
)

// stored is a family of the store that is encoded only when its turn comes.
type stored struct{ f groupstore.Family }

// GobEncode returns the family as a MetricFamily.
func (s stored) GobEncode() ([]byte, error) {
	mf := &dto.MetricFamily{Name: proto.String(s.f.Name()), Type: s.f.Type().Proto().Enum()}
	if help := s.f.Help(); help != "" {
		mf.Help = proto.String(help)
	}
	if unit := s.f.Unit(); unit != "" {
		mf.Unit = proto.String(unit)
	}
	for m := range s.f.Metrics() {
		mf.Metric = append(mf.Metric, m)
	}
	return proto.Marshal(mf)
}

// Write writes the view into the file, in place of what was there. After an error that is still there.
func Write(path string, view *groupstore.View) (Written, error) {
	groups, counts := collect(view)
	err := replaceFile(path, func(w io.Writer) error { return gob.NewEncoder(w).Encode(groups) })
	if err != nil {
		return Written{}, fmt.Errorf("writing %q: %w", path, err)
	}
	return counts, nil
}

func collect(view *groupstore.View) (map[string]newGroup, Written) {
	groups := make(map[string]newGroup, view.Len())
	var counts Written
	for g := range view.Groups() {
		if g.Quarantined() != "" {
			for f := range g.Families() {
				if f.Quarantined() != "" {
					counts.Hidden++
				}
			}
			continue
		}
		out := newGroup{Labels: map[string]string{}, Metrics: map[string]newFamily{}}
		for _, l := range g.Key().Labels() {
			out.Labels[l.Name] = l.Value
		}
		for f := range g.Families() {
			if f.Quarantined() != "" {
				counts.Hidden++
				continue
			}
			if f.Name() != series.PushTimeFamily && f.Name() != series.FailureTimeFamily && series.IsOfStore(f.Name()) {
				continue // a Pushgateway would keep it for ever
			}
			out.Metrics[f.Name()] = newFamily{Timestamp: writtenAt(g, f), GobbableMetricFamily: stored{f}}
			counts.Families++
		}
		groups[g.Key().Canonical()] = out
		counts.Groups++
	}
	return groups, counts
}

// writtenAt returns when a Pushgateway would say that the family was written: its two time families each when that time
// was, so that reading the file back gives it without loss.
func writtenAt(g groupstore.Group, f groupstore.Family) time.Time {
	switch f.Name() {
	case series.PushTimeFamily:
		return g.PushTime()
	case series.FailureTimeFamily:
		return g.FailureTime()
	default:
		return f.PushTime()
	}
}

// replaceFile writes a file beside the old one and puts it in its place once it is on the disk.
func replaceFile(path string, write func(io.Writer) error) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".in_progress.*") // mode 0600, as a Pushgateway's
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) //nolint:errcheck // It is gone if all went well.
	buffered := bufio.NewWriterSize(temporary, 1<<20)
	err = write(buffered)
	if err == nil {
		err = buffered.Flush()
	}
	if err == nil {
		err = temporary.Sync()
	}
	if err = errors.Join(err, temporary.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary.Name(), path); err != nil {
		return err
	}
	return datadir.SyncDir(filepath.Dir(path))
}
