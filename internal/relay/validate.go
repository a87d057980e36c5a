package relay

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"pushrelay/internal/authority"
	"pushrelay/internal/cluster/engine"
	"pushrelay/internal/cluster/membership"
	"pushrelay/internal/mtls"
	"pushrelay/internal/tunnel"
)

// shortestLife is how long a certificate of an agent lives at least. An agent renews it after half of that.
const shortestLife = time.Minute

func (o *Options) validate() error {
	if !strings.HasPrefix(o.TelemetryPath, "/") {
		return fmt.Errorf("--web.telemetry-path %q does not begin with a slash", o.TelemetryPath)
	}
	if o.AgentLabel != "" && (!model.LegacyValidation.IsValidLabelName(o.AgentLabel) || strings.HasPrefix(o.AgentLabel, model.ReservedLabelPrefix)) {
		return fmt.Errorf("--push.agent-label %q is not a label name", o.AgentLabel)
	}
	if n := len(o.AgentLabel); n > tunnel.MaxNameBytes {
		return fmt.Errorf("--push.agent-label has %d bytes, and agents know one of up to %d", n, tunnel.MaxNameBytes)
	}
	if o.AgentLabel == model.JobLabel {
		return errors.New("--push.agent-label cannot be job: every group has that label already")
	}
	for _, positive := range []struct {
		flag  string
		value time.Duration
	}{
		{"--push.timeout", o.PushTimeout},
		{"--scrape.max-timeout", o.ScrapeMaxTimeout},
		{"--agents.forget-after", o.AgentForgetAfter},
		{"--cluster.max-staleness", o.ClusterMaxStaleness},
		{"--shutdown.timeout", o.ShutdownTimeout},
	} {
		if positive.value <= 0 {
			return fmt.Errorf("%s is %s, want more than nothing", positive.flag, positive.value)
		}
	}
	if life := o.AgentCertificateLifetime; life < shortestLife || life > authority.LongestLife {
		return fmt.Errorf("--agents.certificate-lifetime is %s, want %s to %d days", life, shortestLife, authority.LongestLife/(24*time.Hour))
	}
	if o.AgentRenewalGrace <= 0 {
		return fmt.Errorf("--agents.renewal-grace is %s, want more than nothing: an agent that was away for a while comes back by it", o.AgentRenewalGrace)
	}
	if o.GroupsForgetAfter < 0 {
		return fmt.Errorf("--groups.forget-after is %s, want 0 for never or more", o.GroupsForgetAfter)
	}
	if o.PersistenceFile != "" && o.PersistenceExport && o.PersistenceInterval <= 0 {
		return fmt.Errorf("--persistence.interval is %s, want more than nothing", o.PersistenceInterval)
	}
	for _, positive := range []struct {
		flag  string
		value int
	}{
		{"--agents.max-concurrent-scrapes", o.AgentMaxConcurrentScrapes}, {"--web.max-concurrent-scrapes", o.MaxConcurrentScrapes},
	} {
		if positive.value <= 0 {
			return fmt.Errorf("%s is %d, want at least 1", positive.flag, positive.value)
		}
	}
	for _, limit := range []struct {
		flag  string
		value int64
	}{
		{"--push.max-body-size", o.PushLimits.MaxBodyBytes},
		{"--push.max-decompressed-size", o.PushLimits.MaxDecompressedBytes},
		{"--push.max-inflight-bytes", o.PushLimits.MaxInflightBytes},
		{"--push.max-series", int64(o.PushLimits.MaxSeries)},
		{"--push.max-labels", int64(o.PushLimits.MaxLabels)},
		{"--push.max-label-length", int64(o.PushLimits.MaxLabelLength)},
		{"--store.max-series", int64(o.MaxSeries)},
		{"--store.max-groups", int64(o.MaxGroups)},
		{"--agents.max-series", int64(o.AgentMaxSeries)},
		{"--agents.max-groups", int64(o.AgentMaxGroups)},
		{"--scrape.max-body-size", o.ScrapeMaxBodyBytes},
	} {
		if limit.value < 0 {
			return fmt.Errorf("%s is %d, want 0 for no limit or more", limit.flag, limit.value)
		}
	}
	if err := o.validateEtcd(); err != nil {
		return err
	}
	return o.validateAuthorities()
}

// validateEtcd checks which etcd a member is to use.
func (o *Options) validateEtcd() error {
	e := &o.ClusterEtcd
	if len(e.Endpoints) == 0 {
		if o.ClusterEtcdDedicated || e.TLS != (engine.TLS{}) || e.CredentialsFile != "" || e.Prefix != membership.DefaultPrefix {
			return errors.New("--cluster.etcd-dedicated, --cluster.etcd-prefix and the --cluster.etcd files go with --cluster.etcd-endpoints: they are about an etcd that runs by itself")
		}
		return nil
	}
	if o.ClusterEtcdAdminSocket != "" {
		return errors.New("--cluster.etcd-admin-socket is of the etcd within the relay, and --cluster.etcd-endpoints name another one: give one of them")
	}
	if !strings.HasPrefix(e.Prefix, "/") || !strings.HasSuffix(e.Prefix, "/") || len(e.Prefix) < 3 {
		return fmt.Errorf("--cluster.etcd-prefix %q: want one that begins and ends with a slash, such as %s", e.Prefix, membership.DefaultPrefix)
	}
	if (e.TLS.CertFile == "") != (e.TLS.KeyFile == "") {
		return errors.New("--cluster.etcd-cert-file and --cluster.etcd-key-file go together: give both or none")
	}
	scheme := "http"
	if strings.HasPrefix(e.Endpoints[0], "https:") {
		scheme = "https"
	}
	for _, endpoint := range e.Endpoints {
		u, err := url.Parse(endpoint)
		if err != nil || u.Port() == "" || u.Path != "" || u.Scheme != scheme {
			return fmt.Errorf("--cluster.etcd-endpoints %q: want HOST:PORT, http://HOST:PORT or https://HOST:PORT, all by http or all by https", endpoint)
		}
	}
	if scheme == "http" && (e.TLS != (engine.TLS{}) || e.CredentialsFile != "") {
		return errors.New("--cluster.etcd-endpoints by http go without certificates and passwords: give https://HOST:PORT")
	}
	return nil
}

// validateAuthorities checks whose agents are taken, and reads the files that say so.
func (o *Options) validateAuthorities() error {
	given := 0
	for _, file := range []string{o.GRPCTLS.CertFile, o.GRPCTLS.KeyFile, o.GRPCTLS.CAFile} {
		if file != "" {
			given++
		}
	}
	switch {
	case given != 0 && given != 3:
		return errors.New("--grpc.tls.cert-file, --grpc.tls.key-file and --grpc.tls.client-ca-file go together: give all or none")
	case given == 0 && o.GRPCCRLFile != "":
		return errors.New("--grpc.tls.crl-file goes with the --grpc.tls files of an authority of your own: certificates of the relay's own authority are revoked by relay-server agents revoke")
	case given == 0 && o.GRPCAlsoOwnCA:
		return errors.New("--grpc.tls.also-own-ca goes with the --grpc.tls files of another authority: without them the relay's own authority is the one that is trusted")
	case given == 0:
		return nil
	case o.GRPCAlsoOwnCA && o.DataDir == "":
		return errors.New("--grpc.tls.also-own-ca: the relay's own authority is in the data dir, and --data.dir is empty")
	}
	// Also says that a certificate is expired, which a running relay would live with.
	m, err := mtls.Load(mtls.Relay, o.GRPCTLS)
	if err == nil && o.GRPCAlsoOwnCA {
		err = m.CheckVerifiable()
	}
	if err != nil {
		return err
	}
	if o.GRPCCRLFile != "" {
		if err := mtls.CheckRevocationLists(o.GRPCTLS, o.GRPCCRLFile); err != nil {
			return fmt.Errorf("--grpc.tls.crl-file: %w", err)
		}
	}
	return nil
}
