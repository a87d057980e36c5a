//go:build !linux

package asunit

import "time"

// withTimerSlack runs start.
func withTimerSlack(_ time.Duration, start func() error) error { return start() }
