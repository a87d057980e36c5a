package jobexec

import (
	"os"
	"os/signal"
)

// signals are those of this process while a job runs.
type signals struct{ caught chan os.Signal }

// catchSignals begins to take the signals.
func catchSignals() *signals {
	s := &signals{caught: make(chan os.Signal, 16)}
	signal.Notify(s.caught, os.Interrupt)
	return s
}

func (s *signals) stop() { signal.Stop(s.caught) }

// forward does nothing: the console tells all its processes of Ctrl-C and Ctrl-Break, and there are no other signals.
func (*signals) forward(os.Signal, *os.Process) {}

// deliver ends the command: what came before it started it was not told of.
func deliver(_ os.Signal, command *os.Process) { terminate(command) }

// terminate ends the command. There is nothing to ask it with.
func terminate(command *os.Process) {
	command.Kill() //nolint:errcheck // The command may have ended meanwhile.
}

func exitCodeOf(state *os.ProcessState) int { return state.ExitCode() }

func usageOf(state *os.ProcessState) usage {
	return usage{known: true, cpu: state.UserTime() + state.SystemTime()}
}
