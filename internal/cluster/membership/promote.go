package membership

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// promoteEvery is how often it is looked whether a new member has caught up.
const promoteEvery = time.Second

// promote attends to other members, as long as this one's etcd leads, until ctx ends.
func (m *Members) promote(ctx context.Context) {
	ticks := time.NewTicker(promoteEvery)
	defer ticks.Stop()
	var missing map[string]int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		missing = m.attend(ctx, missing)
	}
}

// attend does once what the member does whose etcd leads: it promotes, and takes off the list whom etcd has not any more, because a removal was cut
// short or a member has left by itself. Of whom it was missing before already, by the revision of the key: one that is just let in may be missing for a moment.
func (m *Members) attend(ctx context.Context, before map[string]int64) (missing map[string]int64) {
	if !m.cfg.Engine.Leads() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r, err := readRoll(ctx, m.cfg.Client, m.cfg.Dir)
	if err != nil {
		return nil
	}
	missing = map[string]int64{}
	for i := range r.entries {
		switch e := &r.entries[i]; {
		case e.engine == nil:
			missing[e.Name] = e.revision
			if before[e.Name] == e.revision {
				m.strike(ctx, e)
			}
		case e.engine.IsLearner && e.started():
			m.promoteOne(ctx, e)
		default:
		}
	}
	return missing
}

func (m *Members) strike(ctx context.Context, e *entry) {
	if err := strike(ctx, m.cfg.Client, m.keys, e); err != nil {
		m.cfg.Logger.Warn("a member that is gone is still listed; trying again", slog.String("member", e.Name), slog.Any("err", err))
		return
	}
	m.cfg.Logger.Info("a member that is gone is off the list", slog.String("member", e.Name))
}

func (m *Members) promoteOne(ctx context.Context, e *entry) {
	_, err := m.cfg.Client.MemberPromote(ctx, e.engine.ID)
	switch {
	case err == nil:
		m.cfg.Logger.Info("a new member has caught up, and counts from now on", slog.String("member", e.Name))
	case errors.Is(err, rpctypes.ErrMemberLearnerNotReady), ctx.Err() != nil:
	default:
		m.cfg.Logger.Warn("a new member does not count yet; trying again", slog.String("member", e.Name), slog.Any("err", err))
	}
}
