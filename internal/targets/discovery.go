package targets

import (
	"cmp"
	"fmt"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushrelay/internal/scrape"
	"pushrelay/internal/target"
)

// DiscoveryConfig is what target discovery works with.
type DiscoveryConfig struct {
	// Announce is told every list of targets, one after the other, by the goroutine of Run or by that of Apply. It must neither wait
	// nor call the discovery. Required.
	Announce func(target.Set)
	// Logger is required.
	Logger *slog.Logger
	// Registerer takes the metrics of discovery and of scrapes. Required.
	Registerer prometheus.Registerer
}

// Discovery keeps what can be scraped what the configuration and its target files say, and announces it. It is safe for
// concurrent use.
type Discovery struct {
	// static
	endpoints *scrape.HTTPScraper
	scraper   *scraper // asks endpoints
	announce  func(target.Set)
	logger    *slog.Logger
	metrics   *discoveryMetrics
	changed   chan struct{} // wakes Run to watch other directories; one slot

	mu          sync.Mutex
	jobs        []*job             // guarded by mu
	jobsUnknown bool               // guarded by mu; the configuration does not say which jobs there are
	files       *targetFiles       // guarded by mu
	announced   []*scrape.Endpoint // guarded by mu
	duplicates  []string           // guarded by mu; which targets come twice
	tooMany     string             // guarded by mu; which bound the targets pass, so that earlier ones stay; empty if none
	named       bool               // guarded by mu; this process has announced targets
	missing     string             // guarded by mu; why targets may be missing in what is announced; empty if none are
}

type discoveryMetrics struct {
	targets, failedFiles prometheus.Gauge
}

// NewDiscovery returns a discovery that has no targets yet and has announced nothing; Apply gives it some.
func NewDiscovery(cfg DiscoveryConfig) *Discovery {
	endpoints := scrape.NewHTTPScraper()
	factory := promauto.With(cfg.Registerer)
	return &Discovery{
		endpoints: endpoints, scraper: newScraper(endpoints, cfg.Registerer),
		announce: cfg.Announce, logger: cfg.Logger, files: newTargetFiles(cfg.Logger),
		changed: make(chan struct{}, 1),
		metrics: &discoveryMetrics{
			targets: factory.NewGauge(prometheus.GaugeOpts{
				Name: "relay_agent_targets", Help: "Targets that the agent announces.",
			}),
			failedFiles: factory.NewGauge(prometheus.GaugeOpts{
				Name: "relay_agent_failed_target_files", Help: "Target files that cannot be used as they are; their last good targets stay.",
			}),
		},
	}
}

// Scraper returns what scrapes the announced targets, and no others. It counts scrapes, and remembers the last one of each target.
func (d *Discovery) Scraper() scrape.Scraper { return d.scraper }

// Apply puts a configuration to use, whole, and announces its targets; or it returns an error and changes nothing.
func (d *Discovery) Apply(cfg *Config) error {
	jobs, err := newJobs(cfg)
	if err != nil {
		return inFile(cfg.file, err)
	}
	d.mu.Lock()
	earlier := d.jobs
	d.jobs, d.jobsUnknown = jobs, cfg.ScrapeConfigs == nil
	d.refreshLocked()
	d.mu.Unlock()
	closeIdle(earlier)
	select {
	case d.changed <- struct{}{}:
	default:
	}
	return nil
}

// Close closes the connections that are kept open to targets. It is for when nobody scrapes any more.
func (d *Discovery) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	closeIdle(d.jobs)
}

func (d *Discovery) refresh() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refreshLocked()
}

// refreshLocked reads all target files and announces what there is. The caller holds mu.
func (d *Discovery) refreshLocked() {
	var found []unnamed
	var named []string
	missing := ""
	if d.jobsUnknown {
		missing = "no configuration says which targets there are (scrape_configs: [] says that there are none)"
	}
	for _, j := range d.jobs {
		files, lists, unread := d.files.read(j.cfg)
		named = append(named, files...)
		missing = cmp.Or(missing, unread)
		if !d.named { // later it is a change that somebody made, or a file is gone
			missing = cmp.Or(missing, j.cfg.namesNothing())
		}
		more, err := j.endpoints(append(lists, j.cfg.StaticConfigs...))
		if err != nil { // the configuration and every file were checked before
			d.logger.Error("targets cannot be used", slog.Any("err", err))
			missing = cmp.Or(missing, err.Error())
			continue
		}
		found = append(found, more...)
	}
	if file := d.files.vanished(d.jobs, named); file != "" {
		missing = cmp.Or(missing, fmt.Sprintf("target file %s is gone ([] in it says that it has no targets)", file))
	}
	d.files.forget(named)
	endpoints, twice := nameEndpoints(found)
	d.noteDuplicates(twice)
	d.noteTooMany(endpoints)
	d.metrics.failedFiles.Set(float64(len(d.files.failed) + len(d.files.empty)))
	if d.tooMany != "" {
		d.metrics.failedFiles.Inc()
		d.missing = d.tooMany
		return
	}
	hadTargets := len(d.announced) > 0
	d.announced = endpoints
	d.named = d.named || len(d.announced) > 0
	d.endpoints.Configure(d.announced)
	set := target.Set{Targets: make([]target.Target, 0, len(d.announced)), Completeness: target.Complete}
	for _, e := range d.announced {
		set.Targets = append(set.Targets, e.Target)
	}
	if missing != "" {
		set.Completeness = target.Incomplete
	}
	d.noteMissing(missing, hadTargets)
	d.metrics.targets.Set(float64(len(set.Targets)))
	d.scraper.announce(set.Targets)
	d.announce(set)
}

// Missing returns why targets may be missing in what is announced; empty if none are.
func (d *Discovery) Missing() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.missing
}

// A Target is an announced target and its last scrape.
type Target struct {
	target.Target
	LastScrape Scrape
}

// Targets returns what is announced, in the order of the configuration.
func (d *Discovery) Targets() []Target {
	d.mu.Lock()
	announced := d.announced
	d.mu.Unlock()
	out := make([]Target, 0, len(announced))
	for _, e := range announced {
		out = append(out, Target{e.Target, d.scraper.lastOf(e.Target.Name)})
	}
	return out
}
