package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

const nightly = `# HELP nightly_rows Rows that the last run has copied.
# TYPE nightly_rows gauge
nightly_rows 12
`

// promises are what the job that dies says with its push.
var promises = [][2]string{{"Push-Every", "2s"}, {"Push-TTL", "4s"}}

// The series that are looked at: the job's health and what it pushed.
const (
	nightlyLabels = `{agent="site-a",instance="db-1",job="nightly"}`
	isUp          = "push_up" + nightlyLabels + " 1\n"
	isDown        = "push_up" + nightlyLabels + " 0\n"
	hasContent    = "nightly_rows" + nightlyLabels + " 12\n"
)

// die lets a job say when it pushes next, and push no more. Each moment has to look as it should, and they have to come in their order.
func (d *demo) die(ctx context.Context) error {
	url := d.agentURL + "/metrics/job/nightly/instance/db-1"
	var flags strings.Builder
	for _, p := range promises {
		fmt.Fprintf(&flags, " -H '%s: %s'", p[0], p[1])
	}
	fmt.Fprintf(d.out, "$ curl -X PUT%s --data-binary @- %s\n%s", flags.String(), url, indent(nightly))
	began := time.Now()
	moments := []struct {
		says string
		want []string
	}{
		{"it has pushed, and is up", []string{hasContent, isUp}},
		{"it should have pushed again, and is down: the alert JobDown", []string{hasContent, isDown}},
		{"what it pushed is true no more, and gone; it is still down", []string{isDown}},
	}
	for i, m := range moments {
		err := d.poll(ctx, func() error {
			if i == 0 { // again, until that is seen: a busy machine may take longer than the job lives
				began = time.Now()
				if err := d.put(ctx, url, nightly, promises...); err != nil {
					return err
				}
			}
			shown, err := d.shown(ctx)
			if err == nil && !slices.Equal(shown, m.want) {
				err = fmt.Errorf("the relay shows of the job %q, want %q", shown, m.want)
			}
			return err
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(d.out, "after %v s %s\n%s", time.Since(began).Round(time.Second).Seconds(), m.says, indent(strings.Join(m.want, "")))
	}
	return nil
}

// shown returns those of the job's series that are looked at, as the relay's page has them now.
func (d *demo) shown(ctx context.Context) (lines []string, err error) {
	page, err := get(ctx, d.relayURL+"/metrics")
	for line := range strings.Lines(page) {
		if slices.Contains([]string{isUp, isDown, hasContent}, line) {
			lines = append(lines, line)
		}
	}
	return lines, err
}

// put pushes to the agent, which has to answer that the relay has it.
func (d *demo) put(ctx context.Context, url, body string, headers ...[2]string) error {
	status, says, err := d.send(ctx, url, body, headers...)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("pushing: the agent answers %d %s, want 200: the relay has it", status, says)
	}
	return err
}

// send pushes to the agent, and returns what it answers.
func (d *demo) send(ctx context.Context, url, body string, headers ...[2]string) (status int, says string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, strings.NewReader(body))
	if err != nil {
		return 0, "", fmt.Errorf("pushing: %w", err)
	}
	for _, h := range headers {
		req.Header.Set(h[0], h[1])
	}
	resp, err := httpClient().Do(req)
	if err != nil {
		return 0, "", fmt.Errorf("pushing: %w", err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body) // the status says enough
	return resp.StatusCode, strings.TrimSpace(string(text)), nil
}
