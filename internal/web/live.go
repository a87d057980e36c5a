package web

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"pushrelay/internal/httpserver"
)

const (
	// maxStreams is how many pages hear of changes at once. Others ask from time to time.
	maxStreams = 64
	// beatEvery is how often a page hears that the relay is there.
	beatEvery = 15 * time.Second
	// lookEvery is how often it is looked for changes while somebody listens.
	lookEvery = time.Second
)

// The topics that pages hear of.
const (
	topicGroups = "groups"
	topicAgents = "agents"
	topicRelays = "relays"
)

// A live tells open pages of changes. While no page is open nothing is looked at.
type live struct {
	// Static.
	store   Store
	agents  Agents
	cluster func() *ClusterView // nil for a relay by itself
	begun   chan struct{}       // there is a stream; one slot

	mu      sync.Mutex
	streams map[*stream]struct{} // guarded by mu
	ended   bool                 // guarded by mu; no stream begins any more
}

// A stream is one page that listens.
type stream struct {
	changed chan string   // topics; each has a slot, so that one that is waiting stands for all
	end     chan struct{} // closed when the relay ends
}

func newLive(cfg *Config) *live {
	return &live{store: cfg.Store, agents: cfg.Agents, cluster: cfg.Cluster, begun: make(chan struct{}, 1), streams: map[*stream]struct{}{}}
}

// run looks for changes while somebody listens, until ctx ends; then it ends all streams.
func (l *live) run(ctx context.Context) error {
	defer l.endAll()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.begun:
		}
		l.watch(ctx)
	}
}

// watch looks for changes until nobody listens.
func (l *live) watch(ctx context.Context) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	position, changes, cluster := l.store.Position(), l.agents.Changes(), l.clusterState()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		var topics []string
		if p := l.store.Position(); p != position {
			position, topics = p, append(topics, topicGroups)
		}
		if c := l.agents.Changes(); c != changes {
			changes, topics = c, append(topics, topicAgents)
		}
		if c := l.clusterState(); c != cluster {
			cluster, topics = c, append(topics, topicRelays)
		}
		if l.tell(topics) == 0 {
			return
		}
	}
}

// clusterState is another text once the cluster is not as it was.
func (l *live) clusterState() string {
	if l.cluster == nil {
		return ""
	}
	return l.cluster().state()
}

// tell tells all streams, and returns how many there are.
func (l *live) tell(topics []string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := range l.streams {
		for _, topic := range topics {
			select {
			case s.changed <- topic:
			default: // enough wait that the page asks again
			}
		}
	}
	return len(l.streams)
}

// begin returns a stream; nil if there are too many, or none any more.
func (l *live) begin() *stream {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || len(l.streams) >= maxStreams {
		return nil
	}
	s := &stream{changed: make(chan string, 3), end: make(chan struct{})}
	l.streams[s] = struct{}{}
	select {
	case l.begun <- struct{}{}:
	default:
	}
	return s
}

func (l *live) leave(s *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.streams, s)
}

func (l *live) endAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for s := range l.streams {
		close(s.end)
	}
}

// serve is the stream of events of one page: the names of what has changed, and a beat.
func (l *live) serve(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	s := l.begin()
	if s == nil {
		header.Set("Retry-After", "30")
		http.Error(w, fmt.Sprintf("%d pages listen already: this one asks from time to time", maxStreams), http.StatusServiceUnavailable)
		return
	}
	defer l.leave(s)
	header.Set("Content-Type", "text/event-stream")
	header.Set("X-Accel-Buffering", "no") // nginx would keep events until there are 4 KiB of them
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	// The writer moves the deadline of the answer on with each event, so that the stream lives for as long as its reader takes them.
	out, control := httpserver.NewStallWriter(w), http.NewResponseController(w)
	event := "retry: 5000\nevent: beat\ndata:\n\n"
	for {
		if _, err := out.Write([]byte(event)); err != nil || control.Flush() != nil {
			return
		}
		select {
		case topic := <-s.changed:
			event = "event: " + topic + "\ndata:\n\n"
		case <-beat.C:
			event = "event: beat\ndata:\n\n"
		case <-s.end:
			return
		case <-r.Context().Done():
			return
		}
	}
}
