package membership_test

import (
	"context"
	"testing"

	"github.com/prometheus/common/promslog"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/cluster/engine"
	"pushrelay/internal/cluster/membership"
)

// A hasty etcd hears from another member that it was removed before it has put that to use: it has stopped when it should answer.
type hasty struct {
	*engine.Engine
	clientv3.Cluster

	other   clientv3.Cluster // of another member
	stopped chan struct{}
}

func (h *hasty) MemberRemove(ctx context.Context, id uint64) (*clientv3.MemberRemoveResponse, error) {
	if _, err := h.other.MemberRemove(ctx, id); err != nil {
		return nil, err
	}
	close(h.stopped)
	return nil, rpctypes.ErrStopped
}

func (h *hasty) MemberList(ctx context.Context, opts ...clientv3.OpOption) (*clientv3.MemberListResponse, error) {
	if h.Removed() {
		return nil, rpctypes.ErrStopped
	}
	return h.Cluster.MemberList(ctx, opts...)
}

func (h *hasty) Stopped() <-chan struct{} { return h.stopped }

func (h *hasty) Removed() bool {
	select {
	case <-h.stopped:
		return true
	default:
		return false
	}
}

// TestLeaveIsToldByAnother: a member that leaves has left, also if its etcd stops before it can say so.
func TestLeaveIsToldByAnother(t *testing.T) {
	a := start(t, found(t, "a"))
	b := joined(t, a, "b")
	client := *b.engine.Client()
	h := &hasty{Engine: b.engine, Cluster: client.Cluster, other: a.engine.Client().Cluster, stopped: make(chan struct{})}
	client.Cluster = h
	members := membership.NewMembers(membership.Config{Client: &client, Engine: h, Dir: b.dir, Release: "v1", Level: 1, Logger: promslog.NewNopLogger()})
	restarts := 0
	office := membership.NewOffice(membership.OfficeConfig{
		DataDir: b.dataDir, Release: "v1", Dir: b.dir, Members: members, Client: &client, Leader: func() string { return "a" }, Restart: func() { restarts++ }, Logger: promslog.NewNopLogger(),
	})
	gone, err := office.Leave(t.Context())
	if err != nil || gone.Name != "b" || restarts != 1 {
		t.Fatalf("left: %+v, %v, and %d restarts", gone, err, restarts)
	}
	if m := open(t, b.dataDir).Member(); m.Pending != membership.Leave {
		t.Errorf("b has left, and its data dir says %+v", m)
	}
	waitFor(t, "b is off the list", func() bool { return !a.members.IsMember("b") })
}
