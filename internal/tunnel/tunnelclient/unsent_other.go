//go:build !linux

package tunnelclient

import "syscall"

// boundUnsent does nothing: the system has no such bound, or another.
func boundUnsent(string, string, syscall.RawConn) error { return nil }
