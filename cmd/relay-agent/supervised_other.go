//go:build !windows

package main

import (
	"io"
	"os"
)

// supervised serves as whoever started the agent expects it.
func supervised(serve serveFunc) error { return onSignals(serve) }

// standardError is where the agent logs, and where all commands say what is wrong.
func standardError() io.Writer { return os.Stderr }
