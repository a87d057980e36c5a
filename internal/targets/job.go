package targets

import (
	"fmt"
	"net/http"

	"github.com/prometheus/common/config"

	"pushrelay/internal/scrape"
	"pushrelay/internal/target"
)

// job is a scrape configuration that is in use.
type job struct {
	cfg  *ScrapeConfig
	base scrape.Endpoint // what all its targets have in common
}

// newJobs makes the transports of all jobs. Nothing is in use before all of it succeeded.
func newJobs(cfg *Config) ([]*job, error) {
	jobs := make([]*job, 0, len(cfg.ScrapeConfigs))
	for _, sc := range cfg.ScrapeConfigs {
		rt, err := scrape.NewRoundTripper(sc.HTTPClient, sc.JobName)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, &job{cfg: sc, base: scrape.Endpoint{
			RoundTripper: rt, FollowRedirects: sc.HTTPClient.FollowRedirects,
			Job: sc.JobName, ProxyPaths: sc.ProxyPaths, Credentials: credentialsOf(&sc.HTTPClient),
		}})
	}
	return jobs, nil
}

// credentialsOf returns what the settings of a job add to each of its requests.
func credentialsOf(cfg *config.HTTPClientConfig) scrape.Credentials {
	switch tls := cfg.TLSConfig; {
	case tls.Cert != "" || tls.CertFile != "" || tls.CertRef != "" || tls.Key != "" || tls.KeyFile != "" || tls.KeyRef != "":
		return scrape.ClientCertificate
	case cfg.BasicAuth != nil || cfg.Authorization != nil || cfg.OAuth2 != nil || cfg.BearerToken != "" || cfg.BearerTokenFile != "" || cfg.HTTPHeaders != nil:
		return scrape.HeaderCredentials
	}
	return scrape.NoCredentials
}

// An unnamed endpoint waits until all targets of the agent are known.
type unnamed struct {
	endpoint *scrape.Endpoint
	// nameOf is what the name is made of.
	nameOf target.Target
}

// endpoints returns the endpoints of the given lists of targets.
func (j *job) endpoints(lists []*StaticConfig) ([]unnamed, error) {
	found, err := j.cfg.targets(lists)
	if err != nil {
		return nil, fmt.Errorf("job %q: %w", j.cfg.JobName, err)
	}
	out := make([]unnamed, 0, len(found))
	for _, f := range found {
		e := j.base
		e.Target, e.Params = f.target, f.params
		out = append(out, unnamed{&e, f.nameOf()})
	}
	return out, nil
}

// closeIdle closes the connections that jobs keep open to their targets. Scrapes that run are not touched.
func closeIdle(jobs []*job) {
	for _, j := range jobs {
		(&http.Client{Transport: j.base.RoundTripper}).CloseIdleConnections()
	}
}
