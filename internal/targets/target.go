package targets

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"pushrelay/internal/target"
)

// agentLabel is the label that the relay gives every target of an agent.
const agentLabel = "agent"

// configured is a target as the configuration says it, still without its name.
type configured struct {
	target target.Target
	params url.Values
	// instance says that its label instance is not the address alone.
	instance bool
}

// targets returns the targets of the given lists under this scrape configuration.
func (sc *ScrapeConfig) targets(lists []*StaticConfig) ([]configured, error) {
	var out []configured
	for _, list := range lists {
		for _, address := range list.Targets {
			c, err := sc.target(address, list.Labels)
			if err != nil {
				return nil, fmt.Errorf("target %q: %w", shownAddress(address), err)
			}
			out = append(out, c)
		}
	}
	return out, nil
}

// target applies the labels of its list: job and instance override what is made from job name and address (T29), and the
// labels by which Prometheus lets a target set its scheme, path and parameters do so.
func (sc *ScrapeConfig) target(address string, labels map[string]string) (configured, error) {
	c := configured{params: sc.Params, target: target.Target{
		Job: sc.JobName, Scheme: sc.Scheme, MetricsPath: sc.MetricsPath,
		ScrapeInterval: time.Duration(sc.ScrapeInterval), ScrapeTimeout: time.Duration(sc.ScrapeTimeout),
	}}
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		value := labels[name]
		switch {
		case name == model.JobLabel:
			c.target.Job = value
		case name == model.InstanceLabel:
			c.target.Instance = value
		case name == model.SchemeLabel:
			c.target.Scheme = value
		case name == model.MetricsPathLabel:
			c.target.MetricsPath = value
		case strings.HasPrefix(name, model.ParamLabelPrefix):
			c.params = withParam(c.params, strings.TrimPrefix(name, model.ParamLabelPrefix), value)
		case name == agentLabel && value != "":
			return configured{}, fmt.Errorf("label %q is reserved: at the relay it is the name in the agent's certificate; leave it out", name)
		case strings.HasPrefix(name, model.ReservedLabelPrefix):
			return configured{}, fmt.Errorf("label %q is reserved and has no meaning here", name)
		case value != "": // an empty label is an absent one
			c.target.Labels = append(c.target.Labels, target.Label{Name: name, Value: value})
		}
	}
	if err := checkAddress(address); err != nil {
		return configured{}, err
	}
	c.target.Address = withPort(address, c.target.Scheme)
	if err := checkPath(model.MetricsPathLabel, c.target.MetricsPath); err != nil {
		return configured{}, err
	}
	c.instance = c.target.Instance != ""
	if !c.instance {
		c.target.Instance = address // without a port that it does not have, as in Prometheus 3
	}
	if err := c.target.ValidateUnnamed(); err != nil { // it gets its name when all targets of the agent are known
		return configured{}, err
	}
	return c, nil
}

func withParam(params url.Values, name, value string) url.Values {
	out := maps.Clone(params)
	if out == nil {
		out = url.Values{}
	}
	out.Set(name, value)
	return out
}

// checkPath refuses a path with a query: it would be asked for as a part of the path.
func checkPath(setting, path string) error {
	before, query, found := strings.Cut(path, "?")
	if !found {
		return nil
	}
	hint := "name its parameters in params"
	if params, err := url.ParseQuery(query); err == nil && len(params) > 0 {
		hint = fmt.Sprintf("write %q there, and in the job params: %s", before, flowOf(params))
	}
	return fmt.Errorf("%s %q holds a query: %s", setting, before+"?…", hint)
}

// flowOf writes parameters as YAML of one line, without their values: tokens are among them.
func flowOf(params url.Values) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(params)) {
		values := slices.Repeat([]string{`"…"`}, len(params[name]))
		pairs = append(pairs, fmt.Sprintf("%q: [%s]", name, strings.Join(values, ", ")))
	}
	return "{" + strings.Join(pairs, ", ") + "}"
}

// shownAddress returns an address as errors tell it: without user, password and parameters, which do not belong there but may be there.
func shownAddress(address string) string {
	if before, _, found := strings.Cut(address, "?"); found {
		address = before + "?…"
	}
	if at := strings.LastIndexByte(address, '@'); at >= 0 {
		return "…" + address[at:]
	}
	return address
}

func checkAddress(address string) error {
	if address == "" {
		return errors.New("it is empty, want host:port")
	}
	if strings.Contains(address, "://") {
		return errors.New("write host:port alone, the scheme has a setting of its own")
	}
	if strings.Contains(address, "@") {
		return errors.New("write host:port alone, user and password belong into basic_auth of the job")
	}
	if strings.ContainsAny(address, "/?#") {
		return errors.New("it is not host:port; scheme and path have settings of their own")
	}
	return nil
}

// withPort adds the port that the scheme implies, as Prometheus does.
func withPort(address, scheme string) string {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	port := "80"
	if scheme == "https" {
		port = "443"
	}
	return net.JoinHostPort(strings.Trim(address, "[]"), port)
}
