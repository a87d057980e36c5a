package engine

// Stopped is closed when the member's etcd has stopped, also if that was by itself, as one does that was removed.
func (e *Engine) Stopped() <-chan struct{} { return e.etcd.Server.StopNotify() }

// Removed says that the member was removed: it knows that itself, or has stopped because another member has told it so, which may come first. For no other reason an etcd
// stops by itself.
func (e *Engine) Removed() bool {
	if e.etcd.Server.Cluster().Member(e.etcd.Server.MemberID()) == nil {
		return true
	}
	select {
	case <-e.Stopped():
		return !e.ending.Load()
	default:
		return false
	}
}
