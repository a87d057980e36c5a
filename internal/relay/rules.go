package relay

import (
	"log/slog"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushrelay/internal/addup"
	"pushrelay/internal/fileowner"
	"pushrelay/internal/grouping"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/pushrules"
)

// reloadMetrics tell how the configuration file was when it was last read.
type reloadMetrics struct {
	successful, at prometheus.Gauge
}

func newReloadMetrics(reg prometheus.Registerer) *reloadMetrics {
	return &reloadMetrics{
		successful: promauto.With(reg).NewGauge(prometheus.GaugeOpts{
			Name: "relay_config_last_reload_successful",
			Help: "Whether the configuration file could be put to use when it was last read.",
		}),
		at: promauto.With(reg).NewGauge(prometheus.GaugeOpts{
			Name: "relay_config_last_reload_success_timestamp_seconds",
			Help: "When the configuration file was last put to use, in seconds since the epoch.",
		}),
	}
}

// Reload puts the configuration file to use as it is now, whole, or returns an error and changes nothing. It may be called at any time,
// also before Run and by several at once, who wait for each other.
func (s *Server) Reload() error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	rules, err := pushrules.Load(s.opts.ConfigFile)
	if err != nil {
		s.reloads.successful.Set(0)
		s.logger.Error("configuration was not reloaded, the earlier one stays", slog.Any("err", err))
		return err
	}
	s.applyRules(rules)
	s.warnOf(fileowner.Named{Name: "--config.file", Path: s.opts.ConfigFile})
	s.logger.Info("configuration reloaded", slog.String("file", s.opts.ConfigFile), slog.Int("push_rules", len(rules)))
	return nil
}

// applyRules puts rules to use that were read just now. Callers do it one after the other.
func (s *Server) applyRules(rules []lifetime.Rule) {
	s.rules = rules
	adding := slices.DeleteFunc(slices.Clone(rules), func(r lifetime.Rule) bool { return r.Adding == nil })
	s.adding.Store(&adding)
	s.reloads.successful.Set(1)
	s.reloads.at.SetToCurrentTime()
	if s.recovered {
		s.lives.SetRules(rules)
	}
}

// addingOf returns how pushes to a group are added up; nil if they are not.
func (s *Server) addingOf(key grouping.Key) *addup.Rule {
	if rules := s.adding.Load(); rules != nil {
		return lifetime.AddingOf(*rules, key)
	}
	return nil
}

// beginLives puts the rules to use for the first time, once the store is recovered.
func (s *Server) beginLives() {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	s.recovered = true
	s.lives.SetRules(s.rules)
}

func (s *Server) reloadHandler(w http.ResponseWriter, _ *http.Request) {
	if err := s.Reload(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusOK)
}
