package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/eventlog"
)

// serviceName is what the service is called, and the source of its events.
const serviceName = "relay-agent"

// inService says whether Windows started this process as a service.
func inService() bool {
	is, err := svc.IsWindowsService()
	return err == nil && is
}

// supervised serves as whoever started the agent expects it: as a service, or by signals.
func supervised(serve serveFunc) error {
	if !inService() {
		return onSignals(serve)
	}
	s := &service{serve: serve}
	return errors.Join(svc.Run(serviceName, s), s.err)
}

// A service is the agent, as Windows controls one.
type service struct {
	serve serveFunc
	err   error // how it ended; valid once Execute has returned
}

// Execute runs the agent until it is to stop. A change of parameters (sc control relay-agent paramchange) is what SIGHUP is elsewhere.
func (s *service) Execute(_ []string, requests <-chan svc.ChangeRequest, states chan<- svc.Status) (specific bool, code uint32) {
	running := svc.Status{State: svc.Running, Accepts: svc.AcceptStop | svc.AcceptShutdown | svc.AcceptParamChange}
	ctx, cancel := context.WithCancel(context.Background()) // ended below, by what Windows asks for
	defer cancel()
	reloads := make(chan os.Signal, 1)
	ended := make(chan error, 1)
	go func() { ended <- s.serve(ctx, reloads) }() // waited for below
	states <- running
	for {
		select {
		case s.err = <-ended:
			if s.err != nil {
				return true, exitFailed
			}
			return false, exitOK
		case request := <-requests:
			switch request.Cmd {
			case svc.Interrogate:
				states <- request.CurrentStatus
			case svc.ParamChange:
				select {
				case reloads <- syscall.SIGHUP:
				default: // one that nobody has taken yet stands for this one as well
				}
				states <- running
			case svc.Stop, svc.Shutdown:
				states <- svc.Status{State: svc.StopPending}
				cancel()
			}
		}
	}
}

// standardError is where the agent logs, and where all commands say what is wrong. A service has no standard error: there it is Windows' event log.
func standardError() io.Writer {
	if !inService() {
		return os.Stderr
	}
	log, err := eventlog.Open(serviceName)
	if err != nil {
		return io.Discard // there is nobody to tell
	}
	return events{log}
}

// events writes each line as an event of the level that it has.
type events struct{ log *eventlog.Log }

// eventID says nothing: the text does.
const eventID = 1

func (e events) Write(line []byte) (int, error) {
	report := e.log.Info
	switch {
	case bytes.Contains(line, []byte("level=ERROR")), bytes.Contains(line, []byte(`"level":"ERROR"`)), bytes.HasPrefix(line, []byte(serviceName+": ")):
		report = e.log.Error
	case bytes.Contains(line, []byte("level=WARN")), bytes.Contains(line, []byte(`"level":"WARN"`)):
		report = e.log.Warning
	}
	if err := report(eventID, string(bytes.TrimSpace(line))); err != nil {
		return 0, err
	}
	return len(line), nil
}
