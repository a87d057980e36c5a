package asunit

import (
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// withTimerSlack runs start on a thread that has the slack: a process inherits that of the thread that starts it.
func withTimerSlack(slack time.Duration, start func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slack.Nanoseconds()), 0, 0, 0); err != nil {
		return fmt.Errorf("setting the slack of timers: %w", err)
	}
	defer unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) //nolint:errcheck // 0 sets the thread's own default, which cannot fail where the other did not.
	return start()
}
