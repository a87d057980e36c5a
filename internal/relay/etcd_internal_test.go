package relay

import (
	"strings"
	"testing"

	"pushrelay/internal/cluster/engine"
)

// TestValidateEtcd: flags of an etcd that runs by itself which do not go together are refused, by their names.
func TestValidateEtcd(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(o *Options)
		want   string // empty for nothing wrong
	}{
		"none":                  {func(o *Options) { o.ClusterEtcd.Endpoints = nil }, ""},
		"by http":               {func(*Options) {}, ""},
		"by https with all":     {func(o *Options) { secure(o); o.ClusterEtcd.CredentialsFile = "c" }, ""},
		"dedicated to nobody":   {func(o *Options) { o.ClusterEtcd.Endpoints, o.ClusterEtcdDedicated = nil, true }, "go with --cluster.etcd-endpoints"},
		"a prefix of nothing":   {func(o *Options) { o.ClusterEtcd.Endpoints, o.ClusterEtcd.Prefix = nil, "/x/" }, "go with --cluster.etcd-endpoints"},
		"an admin socket":       {func(o *Options) { o.ClusterEtcdAdminSocket = "/s" }, "give one of them"},
		"a prefix without end":  {func(o *Options) { o.ClusterEtcd.Prefix = "/x" }, "--cluster.etcd-prefix"},
		"the whole of etcd":     {func(o *Options) { o.ClusterEtcd.Prefix = "/" }, "--cluster.etcd-prefix"},
		"a certificate alone":   {func(o *Options) { secure(o); o.ClusterEtcd.TLS.KeyFile = "" }, "give both or none"},
		"no port":               {func(o *Options) { o.ClusterEtcd.Endpoints = []string{"http://a"} }, "want HOST:PORT"},
		"a path":                {func(o *Options) { o.ClusterEtcd.Endpoints = []string{"http://a:1/x"} }, "want HOST:PORT"},
		"both schemes":          {func(o *Options) { o.ClusterEtcd.Endpoints = []string{"http://a:1", "https://b:1"} }, "want HOST:PORT"},
		"a password in clear":   {func(o *Options) { o.ClusterEtcd.CredentialsFile = "c" }, "go without certificates and passwords"},
		"certificates in clear": {func(o *Options) { o.ClusterEtcd.TLS.CAFile = "c" }, "go without certificates and passwords"},
	} {
		o := DefaultOptions()
		o.ClusterEtcd.Endpoints = []string{"http://a:1", "http://b:1"}
		tt.change(&o)
		err := o.validateEtcd()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func secure(o *Options) {
	o.ClusterEtcd.Endpoints, o.ClusterEtcd.TLS = []string{"https://a:1"}, engine.TLS{CertFile: "c", KeyFile: "k", CAFile: "a"}
}
