//go:build unix

package jobexec

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// forwarded are the signals that are meant for the command when they arrive here. SIGTSTP, SIGTTIN, SIGTTOU and SIGCONT
// are not among them: command and job are in one process group, so that the terminal stops and continues both, and the
// shell sees a job like any other.
var forwarded = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM,
}

// signals are those of this process while a job runs.
type signals struct {
	caught chan os.Signal
	pipe   chan os.Signal // SIGPIPE is caught and left there: our own line on a closed standard error must not end us
	tty    int            // the controlling terminal, -1 for none
}

// catchSignals begins to take the signals. One that is ignored stays so, as nohup wants it for the command as well.
func catchSignals() *signals {
	s := &signals{caught: make(chan os.Signal, 16), pipe: make(chan os.Signal, 1)}
	var err error
	if s.tty, err = unix.Open("/dev/tty", unix.O_RDONLY|unix.O_NOCTTY|unix.O_CLOEXEC, 0); err != nil {
		s.tty = -1
	}
	for _, sig := range forwarded {
		if !signal.Ignored(sig) {
			signal.Notify(s.caught, sig)
		}
	}
	signal.Notify(s.pipe, syscall.SIGPIPE)
	return s
}

func (s *signals) stop() {
	signal.Stop(s.caught)
	signal.Stop(s.pipe)
	if s.tty >= 0 {
		unix.Close(s.tty) //nolint:errcheck // It was only asked.
	}
}

// forward hands a signal on, unless the command has it already.
func (s *signals) forward(sig os.Signal, command *os.Process) {
	if !s.fromTerminal(sig) {
		command.Signal(sig) //nolint:errcheck // The command may have ended meanwhile.
	}
}

// deliver hands a signal on.
func deliver(sig os.Signal, command *os.Process) {
	command.Signal(sig) //nolint:errcheck // As above.
}

// fromTerminal says that the terminal has sent the signal, to the whole group: it sends SIGINT and SIGQUIT for keys to the
// group in its foreground, and SIGHUP to everybody when it is gone.
func (s *signals) fromTerminal(sig os.Signal) bool {
	if s.tty < 0 {
		return false
	}
	foreground, err := unix.IoctlGetInt(s.tty, unix.TIOCGPGRP)
	switch sig {
	case syscall.SIGINT, syscall.SIGQUIT:
		return err == nil && foreground == unix.Getpgrp()
	case syscall.SIGHUP:
		return err != nil
	default:
		return false
	}
}

// terminate asks the command to end. One that is stopped can only do so once it continues.
func terminate(command *os.Process) {
	command.Signal(syscall.SIGTERM) //nolint:errcheck // As above.
	command.Signal(syscall.SIGCONT) //nolint:errcheck // As above.
}

func exitCodeOf(state *os.ProcessState) int {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exitSignal + int(status.Signal())
	}
	return state.ExitCode()
}

func usageOf(state *os.ProcessState) usage {
	u := usage{known: true, cpu: state.UserTime() + state.SystemTime()}
	if r, ok := state.SysUsage().(*syscall.Rusage); ok {
		u.maxResidentBytes = int64(r.Maxrss) * maxrssUnit //nolint:unconvert // It has 32 bits on some systems.
	}
	return u
}
