package replicated

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pushrelay/internal/monotonic"
)

var (
	errBehind    = errors.New("this relay's copy of the cluster's store is behind")
	errCutOff    = errors.New("this relay hears no majority of the cluster, and others may show more than it has: ask another one")
	errWasCutOff = errors.New("this relay was cut off or stood still before the last of the others ended, and they may have shown more than it has: start them")
	errElecting  = fmt.Errorf("the cluster's etcd has had no leader for %s, and what its last one has shown may be more than this relay has: ask again", electionPatience)
)

// Others are the other members, as far as they can be asked.
type Others struct {
	// Position is that of the last change that any of them is known to have shown. What the leader writes to be heard is none: the last of that may never be told to all.
	Position uint64
	// MayElect says that enough of them answer for the engine to have a leader soon; MayDecide that those which do not answer, or hear a majority, may be one without
	// this member.
	MayElect, MayDecide bool
}

// electionPatience bounds the wait for the engine's next leader.
const electionPatience = 5 * time.Second

// CatchUp waits until the copy has all that was committed when it was called, so that whoever looks at one relay after another never sees anything go back
// (C9). It costs one read of etcd, shared with others. While the engine has no leader and will have one soon it waits for that: what its last leader has shown may be
// known to nobody else until then. Without a majority it waits until the copy has all that other members show. An error means that the copy is not as far in time,
// that others may have a majority which does not hear of this member, or had one since this member last did, or that the engine's election takes too long.
func (k *Keep) CatchUp(ctx context.Context) error {
	began := time.Now()
	for {
		err := k.catchUp(ctx)
		switch {
		case err == nil || ctx.Err() != nil || errors.Is(err, errBehind):
			return err
		case k.cfg.Others == nil && k.hearsQuorum():
			return err
		case k.cfg.Others == nil, time.Since(k.LastHeard()) > k.cfg.MaxStaleness:
			return nil // for whoever looks all the same
		}
		others, alone := k.askOthers(ctx)
		switch {
		case others.MayElect && time.Since(began) < electionPatience:
			monotonic.Sleep(ctx, again/4)
		case others.MayElect:
			return errElecting
		case others.MayDecide:
			return errCutOff
		case !alone:
			return errWasCutOff
		default:
			return k.shows(ctx, others.Position)
		}
	}
}

// askOthers asks the other members. Alone says that nobody can have decided anything without this one since it last heard a majority. Who was cut off until the others
// died, or stood still, cannot know.
func (k *Keep) askOthers(ctx context.Context) (others Others, alone bool) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, catchUpWithin)
	defer cancel()
	others = k.cfg.Others(ctx)
	return others, !others.MayDecide && k.reader.staysAlone(began, unheard*k.cfg.Silence)
}

// missed keeps it known whether nobody else can decide, while no majority answers.
func (k *Keep) missed(ctx context.Context) {
	if k.cfg.Others != nil {
		k.askOthers(ctx)
	}
}

// unheard is how many times longer than a leader may be silent a member may hear neither a majority nor that nobody else can be one, until it counts as cut off. It asks
// three times in a silence.
const unheard = 2

var errNoLeader = errors.New("the cluster's etcd has no leader at present")

// catchUp waits until the copy has what a majority has.
func (k *Keep) catchUp(ctx context.Context) error {
	if k.cfg.HasQuorum != nil && !k.cfg.HasQuorum() {
		return errNoLeader
	}
	reading, cancel := context.WithTimeout(ctx, catchUpWithin)
	defer cancel()
	revision, err := k.reader.read(reading)
	if err != nil {
		return err
	}
	return k.reaches(ctx, revision)
}

// reaches waits until the copy has a revision.
func (k *Keep) reaches(ctx context.Context, revision int64) error {
	ctx, cancel := context.WithTimeoutCause(ctx, catchUpWithin, errBehind)
	defer cancel()
	return k.progress.wait(ctx, func(has int64, _ uint64) bool { return has >= revision })
}

// shows waits until the copy has all of which a majority has told, and shows a change.
func (k *Keep) shows(ctx context.Context, position uint64) error {
	ctx, cancel := context.WithTimeoutCause(ctx, catchUpWithin, errBehind)
	defer cancel()
	head := k.reader.told.Load()
	return k.progress.wait(ctx, func(hasRevision int64, has uint64) bool { return hasRevision >= head && has >= position })
}
