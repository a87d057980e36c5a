package engine

// Stopped is closed when the member's etcd has stopped, also if that was by itself, as one does that was removed.
func (e *Engine) Stopped() <-chan struct{} { return e.etcd.Server.StopNotify() }

// Removed says that the member was removed, as far as it knows.
func (e *Engine) Removed() bool {
	return e.etcd.Server.Cluster().Member(e.etcd.Server.MemberID()) == nil
}
