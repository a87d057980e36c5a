package engine

// Kill stops the member as if its process had died: nobody is told, and nobody else is made the leader before.
func (e *Engine) Kill() { e.etcd.Server.HardStop() }

// CheckDatabase reads what the disk of a member holds that does not run.
func CheckDatabase(dir string, check func(key string, value []byte) error) error {
	cfg := Config{Dir: dir, CheckValue: check}
	return cfg.checkDatabase()
}
