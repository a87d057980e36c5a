package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"
)

// The paths of the target.
const (
	thousandPath = "/thousand" // 1,000 series
	bigPath      = "/big"      // sizes.bigBody
	farPath      = "/far"      // sizes.farBody
)

// targetCommand, as the first argument, makes this program the target. A target in the process that scrapes would share
// its threads with it, and be faster than any that is worth scraping.
const targetCommand = "target"

// startTarget starts this program once more, as the target.
func (l *lab) startTarget(ctx context.Context) (*program, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("starting a target: %w", err)
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	p, err := startProgram(l.dir, "target", address, self, targetCommand, address, strconv.Itoa(l.sizes.bigBody), strconv.Itoa(l.sizes.farBody))
	if err != nil {
		return nil, err
	}
	l.started = append(l.started, p)
	return p, p.until(ctx, func(ctx context.Context) error {
		_, err := get(ctx, address, thousandPath)
		return err
	})
}

// serveTarget answers each path with a body of its own until ctx ends. The arguments are where to listen, and the sizes of
// the big and of the far body.
func serveTarget(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("serving a target: %d arguments, want 3", len(args))
	}
	big, bigErr := strconv.Atoi(args[1])
	far, farErr := strconv.Atoi(args[2])
	if err := errors.Join(bigErr, farErr); err != nil {
		return fmt.Errorf("serving a target: %w", err)
	}
	mux := http.NewServeMux()
	for path, body := range map[string][]byte{
		thousandPath: pageOf(1000),
		bigPath:      pageOfSize(big),
		farPath:      pageOfSize(far),
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", textType)
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			w.Write(body)
		})
	}
	server := &http.Server{Addr: args[0], Handler: mux, ReadHeaderTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // what is in flight is nobody's any more
	defer stop()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving a target: %w", err)
	}
	return nil
}

// pageOf returns an exposition of so many series, ten to a family: as much of it is comments as in the page of a usual
// exporter.
func pageOf(series int) []byte {
	var page []byte
	for i := range series {
		if i%10 == 0 {
			page = fmt.Appendf(page, "# HELP exporter_requests_%[1]d_total Requests that were served, by endpoint and code.\n# TYPE exporter_requests_%[1]d_total counter\n", i/10)
		}
		page = fmt.Appendf(page, "exporter_requests_%d_total{endpoint=\"/api/v2/resource-%02d\",code=\"200\"} %d\n", i/10, i%10, mix(i, 0, 0)%1_000_000)
	}
	return page
}

// pageOfSize returns the first so many bytes of an exposition: what is measured is bytes, and a scrape through the tunnel
// does not look at them.
func pageOfSize(bytes int) []byte {
	const shortest = 60 // of a series, in bytes
	return pageOf(bytes/shortest + 1)[:bytes]
}
