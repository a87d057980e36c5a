package location

import (
	"time"

	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/roster"
	"pushrelay/internal/target"
)

// agentToProto returns what every relay is to know of an agent. While it is connected it is written only when something has changed: when it was last seen does
// not count.
func agentToProto(a *roster.Agent, connected bool) *storagev1.ClusterAgent {
	m := &storagev1.ClusterAgent{
		Name: a.Name, TrustDomain: a.TrustDomain, Version: a.Version, RemoteAddress: a.RemoteAddress,
		CertificateNotAfter: nanos(a.CertificateNotAfter), CertificateSerial: a.CertificateSerial,
		SessionStarted: nanos(a.SessionStarted), LastSeen: nanos(a.LastSeen), Connected: connected,
	}
	if connected {
		m.LastSeen = m.GetSessionStarted()
	}
	if a.AnnouncedBy != [16]byte{} {
		m.AnnouncedBy = a.AnnouncedBy[:]
	}
	for i := range a.Targets {
		m.Targets = append(m.Targets, targetToProto(&a.Targets[i]))
	}
	return m
}

func targetToProto(t *roster.Target) *storagev1.ClusterTarget {
	m := &storagev1.ClusterTarget{
		Name: t.Name, Job: t.Job, Instance: t.Instance, Address: t.Address, Scheme: t.Scheme, MetricsPath: t.MetricsPath,
		ScrapeInterval: int64(t.ScrapeInterval), ScrapeTimeout: int64(t.ScrapeTimeout),
		ListedUntil: nanos(t.ListedUntil), InstanceSince: t.InstanceSince, AddressSince: t.AddressSince,
	}
	for _, label := range t.Labels {
		m.Labels = append(m.Labels, label.Name, label.Value)
	}
	return m
}

func agentFromProto(m *storagev1.ClusterAgent) roster.Agent {
	a := roster.Agent{
		Name: m.GetName(), TrustDomain: m.GetTrustDomain(), Version: m.GetVersion(), RemoteAddress: m.GetRemoteAddress(),
		CertificateNotAfter: timeOf(m.GetCertificateNotAfter()), CertificateSerial: m.GetCertificateSerial(),
		SessionStarted: timeOf(m.GetSessionStarted()), LastSeen: timeOf(m.GetLastSeen()),
	}
	copy(a.AnnouncedBy[:], m.GetAnnouncedBy())
	for _, t := range m.GetTargets() {
		a.Targets = append(a.Targets, targetFromProto(t))
	}
	return a
}

func targetFromProto(m *storagev1.ClusterTarget) roster.Target {
	t := roster.Target{
		Target: target.Target{
			Name: m.GetName(), Job: m.GetJob(), Instance: m.GetInstance(), Address: m.GetAddress(), Scheme: m.GetScheme(), MetricsPath: m.GetMetricsPath(),
			ScrapeInterval: time.Duration(m.GetScrapeInterval()), ScrapeTimeout: time.Duration(m.GetScrapeTimeout()),
		},
		ListedUntil: timeOf(m.GetListedUntil()), InstanceSince: m.GetInstanceSince(), AddressSince: m.GetAddressSince(),
	}
	for labels := m.GetLabels(); len(labels) > 1; labels = labels[2:] {
		t.Labels = append(t.Labels, target.Label{Name: labels[0], Value: labels[1]})
	}
	return t
}

// nanos returns a time in nanoseconds since the epoch, 0 for none.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func timeOf(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos).UTC()
}
