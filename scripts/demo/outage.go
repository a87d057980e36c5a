package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

const ordered = `# HELP orders_total Orders of the last run.
# TYPE orders_total counter
orders_total 7
`

// outage kills the relay, lets a job push to the agent meanwhile, and starts the relay again. What was there is there, and so is what was pushed.
func (d *demo) outage(ctx context.Context) error {
	if err := d.kill("relay-server"); err != nil {
		return err
	}
	url := d.agentURL + "/metrics/job/orders/instance/db-1"
	fmt.Fprintf(d.out, "$ kill -9 relay\n$ curl -X PUT --data-binary @- %s\n%s", url, indent(ordered))
	status, says, err := d.send(ctx, url, ordered)
	if err != nil {
		return err
	}
	if status != http.StatusAccepted {
		return fmt.Errorf("pushing: the agent answers %d %s, want 202: it keeps the push", status, says)
	}
	fmt.Fprintln(d.out, "202 Accepted: the agent keeps it, on its disk")
	fmt.Fprintln(d.out, "\n$ start relay")
	if err := d.startRelay(ctx); err != nil {
		return err
	}
	want := []string{
		`backup_last_success_bytes{agent="site-a",instance="db-1",job="backup"} 48211`, // of the first act
		`orders_total{agent="site-a",instance="db-1",job="orders"} 7`,
	}
	err = d.poll(ctx, func() error {
		page, err := get(ctx, d.relayURL+"/metrics")
		if err != nil {
			return err
		}
		for _, line := range want {
			if !strings.Contains(page, line+"\n") {
				return fmt.Errorf("the relay's page has no %s", line)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "\n$ curl %s/metrics\n%s", d.relayURL, indent(strings.Join(want, "\n")+"\n"))
	return d.query(ctx, `orders_total{agent="site-a"}`, "7")
}
