// Package asunit starts programs as their systemd units do, so that what is measured of them is what they do in operation.
package asunit

import (
	"fmt"
	"os/exec"
	"time"
)

// TimerSlack is how late the timers of the programs may be: TimerSlackNSec= of deploy/*.service.
const TimerSlack = 200 * time.Microsecond

// Start starts a program with that. Where the system knows nothing of it, it just starts the program.
func Start(cmd *exec.Cmd) error {
	if err := withTimerSlack(TimerSlack, cmd.Start); err != nil {
		return fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
	return nil
}
