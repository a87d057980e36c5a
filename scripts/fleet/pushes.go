package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// pushers push beside the fleet, each to a group of its own, one push after the other.
const pushers = 4

// pushes pushes 50 series at a time for a while, and returns the 99th percentile of how long that takes.
func pushes(ctx context.Context, r *relay, d time.Duration) (time.Duration, error) {
	var body strings.Builder
	for i := range 50 {
		fmt.Fprintf(&body, "fleet_value{n=\"%d\"} %d\n", i, i)
	}
	took := make([][]time.Duration, pushers)
	all, ctx := errgroup.WithContext(ctx)
	for p := range pushers {
		all.Go(func() error {
			url := fmt.Sprintf("http://%s/metrics/job/fleet/instance/%d", r.httpAddress, p)
			for end := time.Now().Add(d); time.Now().Before(end); {
				begun := time.Now()
				if err := put(ctx, url, body.String()); err != nil {
					return err
				}
				took[p] = append(took[p], time.Since(begun))
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		return 0, err
	}
	sorted := slices.Sorted(slices.Values(slices.Concat(took...)))
	return sorted[len(sorted)*99/100], nil
}

var client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: pushers}}

func put(ctx context.Context, url, body string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("a push was answered %s", resp.Status)
	}
	return nil
}

// besideRenewals returns how much longer the slowest pushes take while agents renew their certificates: the median of rounds in turn.
func besideRenewals(ctx context.Context, r *relay, f *fleet, out io.Writer) (float64, error) {
	const rounds = 5
	var ratios []float64
	for range rounds {
		alone, err := pushes(ctx, r, 4*time.Second)
		if err != nil {
			return 0, err
		}
		renewing, stop := context.WithCancel(ctx)
		var renewed int
		var renewals errgroup.Group
		renewals.Go(func() (err error) {
			renewed, err = f.renew(renewing, renewalsPerSecond)
			return err
		})
		beside, err := pushes(ctx, r, 4*time.Second)
		stop()
		if renewErr := renewals.Wait(); err == nil {
			err = renewErr
		}
		if err != nil {
			return 0, err
		}
		fmt.Fprintf(out, "  p99 of pushes: %s alone, %s beside %d renewals\n", alone.Round(10*time.Microsecond), beside.Round(10*time.Microsecond), renewed)
		ratios = append(ratios, float64(beside)/float64(alone))
	}
	slices.Sort(ratios)
	return ratios[rounds/2], nil
}
