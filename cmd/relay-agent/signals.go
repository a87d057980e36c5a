package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// serveFunc runs the agent until ctx ends, and reloads its configuration at each of reloads.
type serveFunc func(ctx context.Context, reloads <-chan os.Signal) error

// onSignals serves until SIGTERM or SIGINT, and reloads at SIGHUP.
func onSignals(serve serveFunc) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	return serve(ctx, hangups)
}
