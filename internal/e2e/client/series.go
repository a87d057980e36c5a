package client

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// SeriesOf reads an exposition with Prometheus' own parser and returns the value of each series, written as Prometheus
// prints it: name{label="value", …}, labels sorted.
func SeriesOf(page string) (map[string]float64, error) {
	values := map[string]float64{}
	decoder := expfmt.SampleDecoder{
		Dec:  expfmt.NewDecoder(strings.NewReader(page), expfmt.NewFormat(expfmt.TypeTextPlain)),
		Opts: &expfmt.DecodeOptions{Timestamp: model.Now()},
	}
	for {
		var samples model.Vector
		if err := decoder.Decode(&samples); errors.Is(err, io.EOF) {
			return values, nil
		} else if err != nil {
			return nil, fmt.Errorf("parsing the exposition: %w", err)
		}
		for _, s := range samples {
			values[s.Metric.String()] = float64(s.Value)
		}
	}
}

// WantSeries waits until the /metrics of a relay or an agent shows a series with this value.
func WantSeries(t testing.TB, url, series string, value float64) {
	t.Helper()
	WantAllSeries(t, url, map[string]float64{series: value})
}

// WantAllSeries waits until one scrape of /metrics shows all these series with their values.
func WantAllSeries(t testing.TB, url string, want map[string]float64) {
	t.Helper()
	Eventually(t, 10*time.Second, "series", func() error {
		all, err := ScrapeSeries(url)
		if err != nil {
			return err
		}
		for series, value := range want {
			if got, ok := all[series]; !ok || got != value {
				return fmt.Errorf("%s is %v (there: %v), want %v", series, got, ok, value)
			}
		}
		return nil
	})
}

// WantNoSeries waits until a series is gone.
func WantNoSeries(t testing.TB, url, series string) {
	t.Helper()
	Eventually(t, 10*time.Second, "no "+series, func() error {
		got, ok, err := ValueOf(url, series)
		if err == nil && ok {
			err = fmt.Errorf("it is still there: %v", got)
		}
		return err
	})
}

// ValueOf returns the value of a series at the /metrics of a relay or an agent, and whether it is there.
func ValueOf(url, series string) (value float64, ok bool, err error) {
	all, err := ScrapeSeries(url)
	value, ok = all[series]
	return value, ok, err
}

// ScrapeSeries returns all series of the /metrics of a relay or an agent.
func ScrapeSeries(url string) (map[string]float64, error) {
	page, err := WantOK(url + "/metrics")
	if err != nil {
		return nil, err
	}
	return SeriesOf(page)
}

// WriteFile writes a file, and makes the folders above it.
func WriteFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ReadFile returns the text of a file that has to be there.
func ReadFile(t testing.TB, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
