package engine

// Kill stops the member as if its process had died: nobody is told, and nobody else is made the leader before.
func (e *Engine) Kill() { e.etcd.Server.HardStop() }
