package replicated

import (
	"fmt"
	"time"
)

// Status is what a member knows of the cluster's store.
type Status struct {
	// Leader is who decides, and Leads whether that is this member.
	Leader Leader
	Leads  bool
	// Revision is that of etcd up to which the copy has everything, and Position the change up to which it shows everything.
	Revision int64
	Position uint64
	// Head is the last revision of the store of which a majority has told.
	Head int64
	// Lag is for how long the copy has lacked something that is committed; 0 if it lacks nothing.
	Lag time.Duration
	// LastHeard is when a majority was last heard; the zero time for never. HasQuorum is whether that was a moment ago.
	LastHeard time.Time
	HasQuorum bool
	// Clock is the cluster's as it is shown here.
	Clock time.Time
}

// Status returns what is known at this moment.
func (k *Keep) Status() Status {
	revision, position, _ := k.progress.now()
	return Status{
		Leader: k.Leader(), Leads: k.Leads(), Revision: revision, Position: position, Head: k.reader.head.Load().revision, Lag: k.Lag(),
		LastHeard: k.LastHeard(), HasQuorum: k.hearsQuorum() && !k.reader.mute.Load(), Clock: k.Clock(),
	}
}

// mostLag is how far behind a copy may be that is asked.
const mostLag = 5 * time.Second

// Ready returns why the member should not be asked at all, nil if it may: its copy is behind, or it has heard no majority for so long (C10).
func (k *Keep) Ready(maxStaleness time.Duration) error {
	heard := k.LastHeard()
	if heard.IsZero() {
		return fmt.Errorf("no majority of the cluster was heard yet")
	}
	if lag := k.Lag(); lag > mostLag {
		return fmt.Errorf("this relay's copy of the cluster's store is %v behind", lag.Truncate(time.Second))
	}
	if silent := time.Since(heard); silent > maxStaleness {
		return fmt.Errorf("no majority of the cluster was heard for %v (--cluster.max-staleness)", silent.Truncate(time.Second))
	}
	return nil
}
