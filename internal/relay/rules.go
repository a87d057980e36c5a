package relay

import (
	"fmt"
	"log/slog"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushrelay/internal/addup"
	"pushrelay/internal/fileowner"
	"pushrelay/internal/grouping"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/policy"
	"pushrelay/internal/pushrules"
)

// files are what stands in the files of rules.
type files struct {
	rules  []lifetime.Rule
	policy *policy.Policy // nil for none
}

// texts are the files of rules word for word, each nil for none.
type texts struct{ rules, policy []byte }

// readTexts reads all files of rules.
func (o *Options) readTexts() (t texts, err error) {
	if t.rules, err = pushrules.Read(o.ConfigFile); err != nil {
		return t, fmt.Errorf("--config.file: %w", err)
	}
	if t.policy, err = policy.Read(o.PolicyFile); err != nil {
		return t, fmt.Errorf("--policy.file: %w", err)
	}
	return t, nil
}

// parse returns what the texts say. The names of the files are for errors.
func (t *texts) parse(rulesFile, policyFile string) (f files, err error) {
	if f.rules, err = pushrules.Parse(rulesFile, t.rules); err != nil {
		return f, fmt.Errorf("--config.file: %w", err)
	}
	if t.policy == nil {
		return f, nil
	}
	if f.policy, err = policy.Parse(policyFile, t.policy); err != nil {
		return f, fmt.Errorf("--policy.file: %w", err)
	}
	return f, nil
}

// readFiles reads all files of rules, and checks them before anybody puts one to use. Errors name the flag and the file, and the line if there
// is one.
func (o *Options) readFiles() (files, error) {
	t, err := o.readTexts()
	if err != nil {
		return files{}, err
	}
	return t.parse(o.ConfigFile, o.PolicyFile)
}

// reloadMetrics tell how the configuration file was when it was last read.
type reloadMetrics struct {
	successful, at prometheus.Gauge
}

func newReloadMetrics(reg prometheus.Registerer) *reloadMetrics {
	return &reloadMetrics{
		successful: promauto.With(reg).NewGauge(prometheus.GaugeOpts{
			Name: "relay_config_last_reload_successful",
			Help: "Whether the configuration file and the policy file could be put to use when they were last read.",
		}),
		at: promauto.With(reg).NewGauge(prometheus.GaugeOpts{
			Name: "relay_config_last_reload_success_timestamp_seconds",
			Help: "When the configuration file and the policy file were last put to use, in seconds since the epoch.",
		}),
	}
}

// Reload puts the configuration file and the policy file to use as they are now, both whole, or returns an error and changes nothing. It may be called at any time,
// also before Run and by several at once, who wait for each other.
func (s *Server) Reload() error {
	if s.routes.Load() == nil {
		return nil // what the files say is read when the relay begins
	}
	s.reloading.Lock()
	defer s.reloading.Unlock()
	t, err := s.opts.readTexts()
	var read files
	if err == nil {
		read, err = t.parse(s.opts.ConfigFile, s.opts.PolicyFile)
	}
	if err == nil && s.cluster != nil {
		err = s.cluster.reload(t)
	}
	if err != nil {
		s.reloads.successful.Set(0)
		s.logger.Error("configuration was not reloaded, the earlier one stays", slog.Any("err", err), slog.String("also", "the relay would not start with these files"))
		return err
	}
	if s.cluster == nil {
		s.use(read)
	}
	s.warnOf(fileowner.Named{Name: "--config.file", Path: s.opts.ConfigFile}, fileowner.Named{Name: "--policy.file", Path: s.opts.PolicyFile})
	attrs := []any{slog.String("file", s.opts.ConfigFile), slog.Int("push_rules", len(read.rules))}
	if read.policy != nil {
		agents, users := read.policy.Rules()
		attrs = append(attrs, slog.String("policy_file", s.opts.PolicyFile), slog.Int("agent_rules", max(agents, 0)), slog.Int("user_rules", max(users, 0)))
	}
	s.logger.Info("configuration reloaded", attrs...)
	return nil
}

// use puts files to use while the relay runs.
func (s *Server) use(read files) {
	s.using.Lock()
	defer s.using.Unlock()
	s.apply(read)
	s.agents.Review()
}

// apply puts files to use that were read just now. Callers do it one after the other.
func (s *Server) apply(read files) {
	s.guard.Set(read.policy)
	rules := read.rules
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
	s.using.Lock()
	defer s.using.Unlock()
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
