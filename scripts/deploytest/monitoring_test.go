package deploytest_test

import (
	"encoding/json"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	monitoringv1alpha1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"
)

// TestMonitoringOfAPortThatIsShut: what the operator makes of the chart's monitoring knows who it is and whom it asks, also where the list of targets comes from.
func TestMonitoringOfAPortThatIsShut(t *testing.T) {
	const both = "web: {existingSecret: relay-web}\nmonitoring:\n  serviceMonitor: {enabled: true}\n  scrapeConfig: {enabled: true}\n"
	const password = "{username: {name: relay-scrape, key: username}, password: {name: relay-scrape, key: password}}"
	const passwordJSON = `"basicAuth":{"username":{"name":"relay-scrape","key":"username"},"password":{"name":"relay-scrape","key":"password"}}`
	for name, tt := range map[string]struct{ values, url, scheme, client string }{
		"a password": {
			"  basicAuth: " + password, "http://relay-server.monitoring.svc:9091/sd/targets", "",
			`{` + passwordJSON + `}`,
		},
		"TLS of an authority that is known": {"  scheme: https", "https://relay-server.monitoring.svc:9091/sd/targets", "https", `{}`},
		"TLS and a password": {
			"  scheme: https\n  tlsConfig: {ca: {secret: {name: relay-web-ca, key: ca.crt}}, serverName: relay.example.org}\n  basicAuth: " + password,
			"https://relay-server.monitoring.svc:9091/sd/targets", "https",
			`{` + passwordJSON + `,"tlsConfig":{"ca":{"secret":{"name":"relay-web-ca","key":"ca.crt"}},"cert":{},"serverName":"relay.example.org"}}`,
		},
		"a certificate of its own, and a token for a proxy": {
			"  scheme: https\n  tlsConfig: {cert: {secret: {name: client, key: tls.crt}}, keySecret: {name: client, key: tls.key}, minVersion: TLS13}\n" +
				"  authorization: {type: Bearer, credentials: {name: token, key: token}}",
			"https://relay-server.monitoring.svc:9091/sd/targets", "https",
			`{"authorization":{"type":"Bearer","credentials":{"name":"token","key":"token"}},` +
				`"tlsConfig":{"ca":{},"cert":{"secret":{"name":"client","key":"tls.crt"}},"keySecret":{"name":"client","key":"tls.key"},"minVersion":"TLS13"}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			files, _, err := render(t.Context(), "relay-server", chartCase{"relay-server", both + tt.values}.read(t))
			if err != nil {
				t.Fatal(err)
			}
			clients := 0
			for _, o := range decode(t, files["monitoring.yaml"]) {
				switch o := o.(type) {
				case *monitoringv1.ServiceMonitor:
					e := o.Spec.Endpoints[0]
					var tls *monitoringv1.SafeTLSConfig
					if e.TLSConfig != nil {
						tls = &e.TLSConfig.SafeTLSConfig
					}
					checkClient(t, "the ServiceMonitor", client{e.Authorization, e.BasicAuth, tls}, tt.client)
					checkScheme(t, "the ServiceMonitor", e.Scheme, tt.scheme)
				case *monitoringv1alpha1.ScrapeConfig:
					list := o.Spec.HTTPSDConfigs[0]
					checkClient(t, "the ScrapeConfig", client{o.Spec.Authorization, o.Spec.BasicAuth, o.Spec.TLSConfig}, tt.client)
					checkClient(t, "the list of targets", client{list.Authorization, list.BasicAuth, list.TLSConfig}, tt.client)
					checkScheme(t, "the ScrapeConfig", o.Spec.Scheme, tt.scheme)
					if string(list.URL) != tt.url {
						t.Errorf("the list of targets is at %s, want %s", list.URL, tt.url)
					}
				}
				clients++
			}
			if clients != 2 {
				t.Errorf("%d objects, want 2", clients)
			}
		})
	}
}

// A client is how Prometheus shows who it is, and knows whom it asks.
type client struct {
	Authorization *monitoringv1.SafeAuthorization `json:"authorization,omitempty"`
	BasicAuth     *monitoringv1.BasicAuth         `json:"basicAuth,omitempty"`
	TLSConfig     *monitoringv1.SafeTLSConfig     `json:"tlsConfig,omitempty"`
}

func checkClient(t *testing.T, whose string, c client, want string) {
	t.Helper()
	if got, err := json.Marshal(c); err != nil || string(got) != want {
		t.Errorf("%s: %s, %v, want %s", whose, got, err, want)
	}
}

func checkScheme(t *testing.T, whose string, scheme *monitoringv1.Scheme, want string) {
	t.Helper()
	if got := scheme.String(); got != want {
		t.Errorf("%s: scheme %q, want %q", whose, got, want)
	}
}
