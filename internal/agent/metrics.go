package agent

import (
	"context"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushrelay/internal/push"
)

// countingPusher counts pushes by result.
type countingPusher struct {
	pusher  push.Pusher
	metrics *prometheus.CounterVec
}

func newPushMetrics(reg prometheus.Registerer) *prometheus.CounterVec {
	return promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "relay_agent_pushes_total",
		Help: "Pushes that arrived at the agent, by HTTP status class of the answer.",
	}, []string{"code"})
}

// Push counts the push when its fate is known.
func (p *countingPusher) Push(ctx context.Context, r *push.Request) (push.Result, error) {
	result, err := p.pusher.Push(ctx, r)
	status := http.StatusOK
	if err != nil {
		status = push.StatusOf(err)
	}
	p.metrics.WithLabelValues(strconv.Itoa(status)).Inc()
	return result, err
}
