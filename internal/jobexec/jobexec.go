// Package jobexec runs a command as if nothing stood between it and its caller, measures the run, and hands what it
// measured to whoever pushes it.
//
// The command has the caller's standard streams, process group and terminal; signals and exit code pass through. Whatever
// goes wrong around it, a push above all, is told and changes neither. The package knows no HTTP and no grouping keys.
// Start reading at [Job].
package jobexec

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"sync"
	"time"
)

// Exit codes of a run that are not the command's own. They are those of env, timeout and the shells.
const (
	// ExitTimeout is that of a command that was ended because its time was over.
	ExitTimeout = 124
	// ExitNotExecutable is that of a command which is there and cannot be started.
	ExitNotExecutable = 126
	// ExitNotFound is that of a command which is not there.
	ExitNotFound = 127
	// exitSignal is added to the number of the signal that ended a command.
	exitSignal = 128
)

const (
	// killAfter is how long a command may take to end once its time is over; then it is killed.
	killAfter = 10 * time.Second
	// pushPatience bounds the pushes after a run: longer than an agent waits for its relays before it keeps a push.
	pushPatience = 15 * time.Second
	// startPatience bounds how long a command waits until its start is pushed.
	startPatience = 5 * time.Second
)

// Job is a command, and what happens around it. All fields but Timeout and ReportStart are required.
type Job struct {
	// Args are the name of the command and its arguments, handed on byte by byte.
	Args []string
	// Stdin, Stdout and Stderr are the command's. As files they are its own: nobody copies, and a process that it leaves
	// behind with one of them open is not waited for.
	Stdin, Stdout, Stderr *os.File
	// Timeout ends a command that still runs after it; 0 for none.
	Timeout time.Duration
	// ReportStart pushes that the command starts, before it does, and at the end that it does not run any more.
	ReportStart bool
	// Push merges a push into the group of the job: families of other names stay.
	Push func(ctx context.Context, p Push) error
	// Report is told, in one line each, what went wrong around the command.
	Report func(line string)
}

// Push is what a job pushes at one time.
type Push struct {
	// Exposition is in the text format.
	Exposition []byte
	// Failed is why the run failed; empty while it runs, and if it did not.
	Failed string
}

// Run runs the command and pushes what it cost, and what it wrote itself to the file in $RELAY_METRICS_FILE. It returns
// the exit code: the command's own, 128 and the number of a signal that ended it, or one of the constants. It takes the
// signals of the process meanwhile, so that one process runs one job at a time.
func (j *Job) Run() int {
	signals := catchSignals()
	defer signals.stop()
	file, err := newMetricsFile(tempPlaces())
	if err != nil {
		j.Report(fmt.Sprintf("no %s for the command: %v", MetricsFileVariable, err))
	}
	defer file.remove()
	var start time.Time
	var early []os.Signal
	if j.ReportStart {
		start = time.Now()
		early = j.pushStart(start, signals)
	}
	r := j.command(file, signals, early)
	r.reportedStart = start
	if r.startErr != nil {
		j.Report(r.startErr.Error())
	}
	if r.timedOut {
		j.Report(fmt.Sprintf("the command did not end within %s, and was ended", j.Timeout))
	}
	j.push(r, file, signals)
	return r.exitCode
}

// pushStart pushes that the command starts, and returns the signals that came meanwhile, any of which ends the waiting.
func (j *Job) pushStart(at time.Time, signals *signals) (early []os.Signal) {
	ctx, cancel := context.WithTimeout(context.Background(), startPatience) // ended here
	defer cancel()
	done := make(chan error, 1)
	var pushing sync.WaitGroup
	pushing.Go(func() { done <- j.Push(ctx, Push{Exposition: appendStart(nil, at, 1)}) })
	defer pushing.Wait()
	for {
		select {
		case s := <-signals.caught:
			early = append(early, s)
			cancel()
		case err := <-done:
			if err != nil {
				j.Report(fmt.Sprintf("the start is not pushed: %v", err))
			}
			return early
		}
	}
}

// push pushes the run, and then what the command wrote: in two pushes, so that a fault of the second cannot cost the first.
func (j *Job) push(r *run, file *metricsFile, signals *signals) {
	ctx, cancel := context.WithTimeout(context.Background(), pushPatience) // ended here, or from the keyboard
	defer cancel()
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case s := <-signals.caught:
				if s == os.Interrupt { // somebody at a terminal; a run that was ended by others is worth a push
					cancel()
				}
			case <-ctx.Done():
				return
			}
		}
	})
	defer watching.Wait()
	defer cancel()

	written, err := file.read(r.metrics())
	if err != nil {
		j.Report(fmt.Sprintf("%s is not pushed: %v", MetricsFileVariable, err))
	}
	failed := r.failed()
	if err := j.Push(ctx, Push{Exposition: r.exposition(), Failed: failed}); err != nil {
		j.Report(fmt.Sprintf("the run is not pushed: %v", err))
		return
	}
	if len(written) == 0 {
		return
	}
	if err := j.Push(ctx, Push{Exposition: written, Failed: failed}); err != nil { // the newest push says whether the job failed
		j.Report(fmt.Sprintf("%s is not pushed: %v", MetricsFileVariable, err))
	}
}

// run is what became of the command.
type run struct {
	reportedStart time.Time // zero if nobody asked for that
	exitCode      int
	startErr      error  // why the command could not be started
	end           string // how it ended, as in "exit status 2"; empty if it was not started
	timedOut      bool
	endedAt       time.Time
	duration      time.Duration
	usage         usage
}

// failed returns why the run failed; empty if it did not.
func (r *run) failed() string {
	switch {
	case r.exitCode == 0:
		return ""
	case r.startErr != nil:
		return r.startErr.Error()
	case r.timedOut:
		return "its time was over (--timeout)"
	default:
		return r.end
	}
}

// usage is what a command used, together with those of its children that it waited for.
type usage struct {
	known bool
	cpu   time.Duration
	// maxResidentBytes is that of the largest of these processes; 0 where nothing is known of it.
	maxResidentBytes int64
}

// command runs the command to its end. The early signals are those that came before it.
func (j *Job) command(file *metricsFile, signals *signals, early []os.Signal) *run {
	// It ends by itself, by a signal or by its timeout, in an order that no context knows.
	cmd := exec.CommandContext(context.Background(), j.Args[0], j.Args[1:]...)
	if errors.Is(cmd.Err, exec.ErrDot) {
		cmd.Err = nil // found by a dot in $PATH; a shell would start it too
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = j.Stdin, j.Stdout, j.Stderr
	cmd.Env = file.environment(os.Environ())
	startedAt := time.Now()
	if err := cmd.Start(); err != nil {
		return &run{exitCode: exitNotStarted(err), startErr: fmt.Errorf("starting the command: %w", err), endedAt: time.Now()}
	}
	for _, s := range early {
		deliver(s, cmd.Process) // whoever sent it, as the command did not get it
	}
	memory := watchMemory(cmd.Process.Pid)
	ended := make(chan struct{})
	r := &run{}
	var watching sync.WaitGroup
	watching.Go(func() { r.timedOut = j.watch(cmd.Process, signals, ended) })
	cmd.Wait() //nolint:errcheck // What it says is in ProcessState; with files for streams there is nothing else to fail.
	r.endedAt, r.duration = time.Now(), time.Since(startedAt)
	close(ended)
	watching.Wait()
	r.exitCode, r.end, r.usage = exitCodeOf(cmd.ProcessState), cmd.ProcessState.String(), usageOf(cmd.ProcessState)
	r.usage.maxResidentBytes = memory.end(r.usage.maxResidentBytes)
	if r.timedOut {
		r.exitCode = ExitTimeout
	}
	return r
}

func exitNotStarted(err error) int {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
		return ExitNotFound
	}
	return ExitNotExecutable
}

// watch hands signals on, and ends the command when its time is over, until the command has ended.
func (j *Job) watch(command *os.Process, signals *signals, ended <-chan struct{}) (timedOut bool) {
	var timeout, kill <-chan time.Time
	if j.Timeout > 0 {
		timeout = time.After(j.Timeout)
	}
	for {
		select {
		case <-ended:
			return timedOut
		case s := <-signals.caught:
			signals.forward(s, command)
		case <-timeout:
			timedOut = true
			terminate(command)
			kill = time.After(killAfter)
		case <-kill:
			command.Kill() //nolint:errcheck // It has ended meanwhile, or it does now.
		}
	}
}
