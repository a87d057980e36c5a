package targets

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"pushrelay/internal/target"
	"pushrelay/internal/yamldoc"
)

// globalTimes are what the section global of a pasted Prometheus configuration has for jobs without times of their own.
type globalTimes struct {
	ScrapeInterval model.Duration `yaml:"scrape_interval"`
	ScrapeTimeout  model.Duration `yaml:"scrape_timeout"`
}

// globalTimesOf reads the section global; without one there are no times.
func globalTimesOf(root *yaml.Node) (globalTimes, error) {
	var times globalTimes
	for key, value := range pairs(root) {
		if key.Value != "global" {
			continue
		}
		err := value.Decode(&times)
		if _, hasLine := errors.AsType[*yaml.TypeError](err); hasLine {
			return globalTimes{}, yamldoc.Plain(err)
		}
		if err != nil {
			return globalTimes{}, fmt.Errorf("line %d: global: %w", key.Line, yamldoc.Plain(err))
		}
	}
	return times, nil
}

// completeTimes makes a pair of what the job says, with the rest from global, so that Prometheus is told both or neither (see
// [target.FitTimes]). It reports whether a timeout stood alone and was dropped.
func (sc *ScrapeConfig) completeTimes(global globalTimes) (alone bool, err error) {
	if sc.ScrapeInterval == 0 && sc.ScrapeTimeout == 0 {
		return false, nil
	}
	interval, where := sc.ScrapeInterval, "scrape_interval"
	if interval == 0 {
		interval, where = global.ScrapeInterval, "global's scrape_interval"
	}
	if interval > 0 && sc.ScrapeTimeout > interval {
		return false, fmt.Errorf("scrape_timeout %s is longer than %s %s", sc.ScrapeTimeout, where, interval)
	}
	if err := target.CheckTimes(time.Duration(interval), time.Duration(sc.ScrapeTimeout)); err != nil {
		return false, err
	}
	usual := time.Duration(global.ScrapeTimeout)
	if usual == 0 {
		usual = target.DefaultScrapeTimeout
	}
	fitInterval, fitTimeout := target.FitTimes(time.Duration(interval), time.Duration(sc.ScrapeTimeout), usual)
	if err := target.CheckTimes(fitInterval, fitTimeout); err != nil { // a short timeout of global
		return false, err
	}
	sc.ScrapeInterval, sc.ScrapeTimeout = model.Duration(fitInterval), model.Duration(fitTimeout)
	return interval == 0, nil
}
