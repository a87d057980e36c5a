package wal

import "io"

// TakeLock locks a file as the log's own lock is, for what belongs to a log and is kept elsewhere: until it is closed or the
// process ends. It returns a [*LockedError] if somebody holds it, and ErrNoLocks if nobody can.
func TakeLock(path string) (io.Closer, error) { return osFS{}.Lock(path) }
