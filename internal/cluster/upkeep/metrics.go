package upkeep

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	bytes, inUse, compacted prometheus.Gauge
	defragmentations        prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	factory := promauto.With(reg)
	return &metrics{
		bytes: factory.NewGauge(prometheus.GaugeOpts{
			Name: "relay_cluster_etcd_db_bytes", Help: "Size of the file of the etcd of this relay, or of the largest member of one of its own.",
		}),
		inUse: factory.NewGauge(prometheus.GaugeOpts{
			Name: "relay_cluster_etcd_db_in_use_bytes", Help: "What of that file is in use. Pushes are refused from 80 % of the quota on.",
		}),
		compacted: factory.NewGauge(prometheus.GaugeOpts{
			Name: "relay_cluster_etcd_compacted_revision", Help: "The revision up to which this relay has last had etcd forget what is past; 0 for none.",
		}),
		defragmentations: factory.NewCounter(prometheus.CounterOpts{
			Name: "relay_cluster_etcd_defragmentations_total", Help: "How often this relay has had a member of etcd give its free space back to the disk.",
		}),
	}
}
