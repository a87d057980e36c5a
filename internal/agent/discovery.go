package agent

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushrelay/internal/scrape"
	"pushrelay/internal/target"
)

// settle is how long target files may rest before they are read: a file is often written in several steps.
const settle = 100 * time.Millisecond

// targetDiscovery keeps the agent's endpoints what the configuration and the target files say, and announces them.
type targetDiscovery struct {
	// static
	scraper  *scrape.HTTPScraper
	announce func(target.Set)
	logger   *slog.Logger
	metrics  *discoveryMetrics
	changed  chan struct{} // wakes Run to watch other directories; one slot

	mu        sync.Mutex
	jobs      []*job             // guarded by mu
	unsaid    bool               // guarded by mu; the configuration does not say which jobs there are
	files     *targetFiles       // guarded by mu
	announced []*scrape.Endpoint // guarded by mu
	doubles   []string           // guarded by mu; which targets come twice
	tooMany   string             // guarded by mu; which bound the targets pass, so that earlier ones stay; empty if none
	named     bool               // guarded by mu; this process has announced targets
	missing   string             // guarded by mu; why targets may be missing in what is announced; empty if none are
}

type discoveryMetrics struct {
	targets, failedFiles prometheus.Gauge
}

func newTargetDiscovery(scraper *scrape.HTTPScraper, announce func(target.Set), logger *slog.Logger, reg prometheus.Registerer) *targetDiscovery {
	return &targetDiscovery{
		scraper: scraper, announce: announce, logger: logger, files: newTargetFiles(logger),
		changed: make(chan struct{}, 1),
		metrics: &discoveryMetrics{
			targets: promauto.With(reg).NewGauge(prometheus.GaugeOpts{
				Name: "relay_agent_targets", Help: "Targets that the agent announces.",
			}),
			failedFiles: promauto.With(reg).NewGauge(prometheus.GaugeOpts{
				Name: "relay_agent_failed_target_files", Help: "Target files that cannot be used as they are; their last good targets stay.",
			}),
		},
	}
}

// apply puts a configuration to use, whole, or returns an error and changes nothing.
func (d *targetDiscovery) apply(cfg *FileConfig) error {
	jobs, err := newJobs(cfg)
	if err != nil {
		return err
	}
	d.mu.Lock()
	earlier := d.jobs
	d.jobs, d.unsaid = jobs, cfg.ScrapeConfigs == nil
	d.refreshLocked()
	d.mu.Unlock()
	closeIdle(earlier)
	select {
	case d.changed <- struct{}{}:
	default:
	}
	return nil
}

// closeIdle closes the connections that jobs keep open to their targets. Scrapes that run are not touched.
func closeIdle(jobs []*job) {
	for _, j := range jobs {
		(&http.Client{Transport: j.base.RoundTripper}).CloseIdleConnections()
	}
}

// stop closes what is kept open to targets.
func (d *targetDiscovery) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	closeIdle(d.jobs)
}

func (d *targetDiscovery) refresh() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refreshLocked()
}

// refreshLocked reads all target files and announces what there is. The caller holds mu.
func (d *targetDiscovery) refreshLocked() {
	var found []unnamed
	var named []string
	missing := ""
	if d.unsaid {
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
	d.noteDoubles(twice)
	d.noteTooMany(endpoints)
	d.metrics.failedFiles.Set(float64(len(d.files.failed) + len(d.files.odd)))
	if d.tooMany != "" {
		d.metrics.failedFiles.Inc()
		d.missing = d.tooMany
		return
	}
	hadTargets := len(d.announced) > 0
	d.announced = endpoints
	d.named = d.named || len(d.announced) > 0
	d.scraper.Configure(d.announced)
	set := target.Set{Targets: make([]target.Target, 0, len(d.announced)), Completeness: target.Complete}
	for _, e := range d.announced {
		set.Targets = append(set.Targets, e.Target)
	}
	if missing != "" {
		set.Completeness = target.Incomplete
	}
	d.noteMissing(missing, hadTargets)
	d.metrics.targets.Set(float64(len(set.Targets)))
	d.announce(set)
}

// noteMissing says once why targets may be missing, and that none are any more. The caller holds mu.
func (d *targetDiscovery) noteMissing(missing string, hadTargets bool) {
	before := d.missing
	d.missing = missing
	switch {
	case missing == before:
	case missing == "":
		d.logger.Info("the list of targets is complete")
	case d.unsaid && !hadTargets: // as it is with agents that only push
		d.logger.Info("this agent has no targets", slog.String("reason", missing))
	default:
		d.logger.Warn("targets may be missing: relays list those that were there before for a while, and then no more", slog.String("reason", missing))
	}
}

// whyMissing returns why targets may be missing in what is announced; empty if none are.
func (d *targetDiscovery) whyMissing() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.missing
}

// noteDoubles remembers and logs once which targets come twice. The caller holds mu.
func (d *targetDiscovery) noteDoubles(twice []*scrape.Endpoint) {
	var doubles []string
	for _, e := range twice {
		double := describeDouble(e.Target)
		if !slices.Contains(doubles, double) {
			doubles = append(doubles, double)
		}
		if !slices.Contains(d.doubles, double) {
			d.logger.Error("target files name a target twice, it counts once", slog.String("err", double))
		}
	}
	d.doubles = doubles
}

// noteTooMany remembers and logs once which bound the targets of configuration and files pass together: a relay would take none of them.
// The caller holds mu.
func (d *targetDiscovery) noteTooMany(endpoints []*scrape.Endpoint) {
	before := d.tooMany
	d.tooMany = ""
	var count target.Count
	for _, e := range endpoints {
		if err := count.Add(e.Target.Bytes(), len(e.Target.Labels)); err != nil {
			d.tooMany = err.Error()
			break
		}
	}
	switch d.tooMany {
	case before:
	case "":
		d.logger.Info("the targets are within the bounds of relays again")
	default:
		d.logger.Error("targets cannot be announced, with those of target files they pass a bound of relays; the earlier ones stay", slog.String("err", d.tooMany))
	}
}

// targets returns what is announced.
func (d *targetDiscovery) targets() []target.Target {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]target.Target, 0, len(d.announced))
	for _, e := range d.announced {
		out = append(out, e.Target)
	}
	return out
}

// watched returns the directories of the target files, and how often to read them in any case.
func (d *targetDiscovery) watched() (directories map[string]bool, interval time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	directories, interval = map[string]bool{}, defaultRefreshInterval
	for _, j := range d.jobs {
		for _, files := range j.cfg.FileSDConfigs {
			if i := time.Duration(files.RefreshInterval); i > 0 {
				interval = min(interval, i)
			}
			for _, pattern := range files.Files {
				directories[filepath.Dir(pattern)] = true
			}
		}
	}
	return directories, interval
}

// Run reads target files again when their directories change, and from time to time in case nobody said so, until ctx ends.
func (d *targetDiscovery) Run(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching target files: %w", err)
	}
	defer watcher.Close() //nolint:errcheck // Nothing is lost with a watch.
	rest := time.NewTimer(settle)
	rest.Stop()
	refresh := time.NewTicker(defaultRefreshInterval)
	defer refresh.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.changed:
			directories, interval := d.watched()
			d.watch(watcher, directories)
			refresh.Reset(interval)
			rest.Reset(settle) // what changed before the directory was watched
		case <-watcher.Events:
			rest.Reset(settle)
		case err := <-watcher.Errors:
			d.logger.Warn("watching target files", slog.Any("err", err))
		case <-rest.C:
			d.refresh()
		case <-refresh.C:
			d.refresh()
		}
	}
}

// watch makes the watched directories those given. One that cannot be watched is still read from time to time.
func (d *targetDiscovery) watch(watcher *fsnotify.Watcher, directories map[string]bool) {
	for _, watched := range watcher.WatchList() {
		if !directories[watched] {
			watcher.Remove(watched) //nolint:errcheck // It may be gone already.
		}
	}
	for directory := range directories {
		if err := watcher.Add(directory); err != nil {
			d.logger.Warn("directory of target files cannot be watched, it is read from time to time", slog.String("file", directory), slog.Any("err", err))
		}
	}
}
