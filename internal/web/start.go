package web

import (
	"cmp"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"pushrelay/internal/webpage"
)

// firstSteps is what somebody copies who begins, with the addresses of this relay.
type firstSteps struct {
	CanDial   bool
	Address   string // where agents dial in
	Token     string // a command at the relay's machine; empty where others issue certificates
	ComeIn    string // those at the agent's machine
	Push      string
	Configure string // for prometheus.yml
}

func (h *Handler) showStart(w http.ResponseWriter, r *http.Request) {
	h.show(w, r, 0, func(rights *Rights, _ time.Time) webpage.Page {
		return webpage.Page{Template: "start", Title: "First steps", Place: "First steps", Content: h.firstSteps(r, rights)}
	})
}

func (h *Handler) firstSteps(r *http.Request, rights *Rights) firstSteps {
	base := h.baseURL(r)
	u, err := url.Parse(base)
	if err != nil {
		u = &url.URL{Scheme: "http", Host: "localhost"}
	}
	s := firstSteps{CanDial: h.cfg.AgentsPort != "", Address: net.JoinHostPort(u.Hostname(), h.cfg.AgentsPort), Push: "echo 'backup_last_success_bytes 48211' |\n  curl --data-binary @- " + quoted(base+"/metrics/job/backup/instance/db-1")}
	switch {
	case h.cfg.DataDir == "":
	case rights.HidesStatus:
		s.Token = "relay-server --data.dir=DIR agents token site-a"
	default:
		s.Token = "relay-server --data.dir=" + quoted(h.cfg.DataDir) + " agents token site-a"
	}
	s.ComeIn = "relay-agent enroll TOKEN\nrelay-agent --config.file=agent.yml"
	s.Configure = configuration(u, h.cfg.TelemetryPath)
	return s
}

// configuration is what Prometheus needs to know of a relay.
func configuration(u *url.URL, telemetry string) string {
	host := u.Host
	var b strings.Builder
	b.WriteString("scrape_configs:\n  - job_name: relay\n    honor_labels: true            # job and instance are those of whoever pushed\n")
	if u.Scheme == "https" {
		b.WriteString("    scheme: https\n")
	}
	if path := strings.TrimSuffix(u.Path, "/") + telemetry; path != "/metrics" {
		b.WriteString("    metrics_path: " + yamlText(path) + "\n")
	}
	b.WriteString("    static_configs:\n      - targets: [" + yamlText(host) + "]\n")
	b.WriteString("  - job_name: tunnelled           # each target brings its own job, instance and agent\n    http_sd_configs:\n      - url: " + yamlText(strings.TrimSuffix(u.String(), "/")+"/sd/targets") + "\n")
	return b.String()
}

// baseURL returns how who asks reaches the relay, without a trailing slash.
func (h *Handler) baseURL(r *http.Request) string {
	if h.cfg.ExternalURL != nil {
		return strings.TrimSuffix(h.cfg.ExternalURL.String(), "/")
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	u := url.URL{Scheme: scheme, Host: cmp.Or(r.Host, "localhost"), Path: h.cfg.RoutePrefix}
	return u.String()
}

// quoted writes a word for a shell.
func quoted(word string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@%+=,"
	if word != "" && strings.Trim(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// yamlText writes a text for YAML.
func yamlText(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
