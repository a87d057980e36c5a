package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/common/route"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/httpserver"
	"pushrelay/internal/metric"
)

// SpooledHeader marks the answer to a push that waits at the agent.
const SpooledHeader = "X-Relay-Spooled"

// firstGrow bounds what is set aside for a body before it has arrived: a Content-Length alone costs nothing.
const firstGrow = 64 << 10

// bodyStall is how long a body may stand still. A stalled pusher then costs a closed socket and no more.
const bodyStall = 30 * time.Second

// HandlerConfig is what a [Handler] works with.
type HandlerConfig struct {
	// Applier takes the pushes. Required.
	Applier Applier
	// Limits bound each push.
	Limits exposition.Limits
	// Budget bounds all bodies together; nil for no bound. It is shared with the other ways by which pushes come.
	Budget *Budget
	// Names says which label names a grouping key may have, at the moment; nil stands for legacy names.
	Names func() metric.NameScheme
	// NamesInDoubt says why it is not known yet whether Names should be UTF-8 names, nil if it is; a nil function never does. A push whose path
	// means another group then, or none now, is unavailable.
	NamesInDoubt func() error
	// Permit says whether a request may do that to a group, before its body is read: an error is the answer. Nil permits everything.
	Permit func(r *http.Request, op change.Operation, key grouping.Key) error
	// Sees says of which groups who sent a request may know: what is answered names no others. It is nil, or returns nil, for all.
	Sees func(r *http.Request) func(key grouping.Key) bool
	// Refused is told of each push that is permitted and does not come to Applier, the zero key standing for a path that names no group; nil
	// tells nobody. It must be safe for concurrent use.
	Refused func(op change.Operation, key grouping.Key, o change.Outcome)
	// Timeout bounds the wait for the pusher; 0 for no bound but the pusher's own.
	Timeout time.Duration
	// Logger reports refused pushes at debug level. Required.
	Logger *slog.Logger
}

// Handler serves the push routes of the Pushgateway API. It is safe for concurrent use.
type Handler struct {
	cfg HandlerConfig
}

// NewHandler returns a handler. It starts nothing.
func NewHandler(cfg HandlerConfig) *Handler { return &Handler{cfg: cfg} }

// Instrument wraps the handler of a route for telemetry. The name is "push" or "delete".
type Instrument func(name string, h http.HandlerFunc) http.HandlerFunc

// Mount registers the push routes, below the router's prefix.
func (h *Handler) Mount(r *route.Router, instrument Instrument) {
	for _, job := range []struct {
		path   string
		base64 bool
	}{
		{"/metrics/job/:job", false},
		{"/metrics/job@base64/:job", true},
	} {
		replace := instrument("push", h.serve(change.Replace, job.base64))
		merge := instrument("push", h.serve(change.Merge, job.base64))
		remove := instrument("delete", h.serve(change.Delete, job.base64))
		for _, path := range []string{job.path, job.path + "/*labels"} {
			r.Put(path, replace)
			r.Post(path, merge)
			r.Del(path, remove)
		}
	}
}

func (h *Handler) serve(op change.Operation, jobBase64 bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		o := h.push(w, r, op, jobBase64)
		switch {
		case !o.IsTaken():
			h.refuse(w, r, o)
		case o.Kind == change.Spooled:
			w.Header().Set(SpooledHeader, "true")
			w.WriteHeader(o.Kind.Status())
			fmt.Fprintln(w, o.Detail)
		case op == change.Delete:
			w.WriteHeader(http.StatusAccepted)
		default:
			w.WriteHeader(o.Kind.Status())
		}
	}
}

// push reads the request in the order in which the reference judges it: content encoding, grouping key, body; before the body the headers that
// the reference does not have. Those of a DELETE are none of its business, as its body is not.
func (h *Handler) push(w http.ResponseWriter, r *http.Request, op change.Operation, jobBase64 bool) change.Outcome {
	receivedAt := time.Now()
	key, keyErr := h.key(grouping.Path{
		Job:       route.Param(r.Context(), "job"),
		JobBase64: jobBase64,
		Labels:    route.Param(r.Context(), "labels"),
	})
	if h.cfg.Permit != nil && keyErr == nil {
		if err := h.cfg.Permit(r, op, key); err != nil {
			return change.OutcomeOf(err)
		}
	}
	ctx := httpserver.Outlasting(r.Context()) // what was taken is decided, whoever waits for it
	arriving := &stallReader{control: http.NewResponseController(w), body: r.Body}
	body := h.cfg.Budget.Buffer(ctx, Sender{Name: hostOf(r.RemoteAddr), End: arriving.end})
	defer body.Release()
	c := &change.Change{Operation: op, Key: key, At: receivedAt}
	var err error
	if op != change.Delete {
		err = h.readBody(w, r, arriving, body)
	}
	if err == nil {
		err = keyErr
	}
	if err == nil {
		err = h.complete(c, r.Header, body)
	}
	if err != nil {
		o := change.OutcomeOf(err)
		if h.cfg.Refused != nil {
			h.cfg.Refused(op, key, o)
		}
		return o
	}
	if h.cfg.Timeout > 0 {
		var end context.CancelFunc
		ctx, end = context.WithTimeout(ctx, h.cfg.Timeout)
		defer end()
	}
	return h.cfg.Applier.Apply(ctx, c)
}

// complete judges the key and the headers of a change, and gives it its body.
func (h *Handler) complete(c *change.Change, header http.Header, body *Buffer) error {
	if c.Operation == change.Delete {
		return readOnce(c, header)
	}
	if err := CheckKey(c.Key, h.cfg.Limits); err != nil {
		return err
	}
	if err := readOperation(c, header); err != nil {
		return err
	}
	if err := readLife(c, header); err != nil {
		return err
	}
	c.Format = exposition.FormatOfPush(header.Get("Content-Type"))
	if err := body.Complete(c.Format); err != nil {
		return err
	}
	c.Body = body.Bytes()
	return readOnce(c, header)
}

// retryInDoubt is when a path may mean one thing only: an agent is back about that long after its network.
const retryInDoubt = 15 * time.Second

// key returns the key that a path names.
func (h *Handler) key(path grouping.Path) (grouping.Key, error) {
	names := h.names()
	key, err := grouping.FromPath(path, names)
	if h.cfg.NamesInDoubt != nil && names != metric.UTF8Names {
		wide, wideErr := grouping.FromPath(path, metric.UTF8Names)
		if wideErr == nil && (err != nil || wide != key) {
			if why := h.cfg.NamesInDoubt(); why != nil {
				return grouping.Key{}, &change.Outcome{
					Kind: change.Unavailable, Detail: fmt.Sprintf("what the label names in this path mean is not known yet: %v", why), RetryAfter: retryInDoubt,
				}
			}
		}
	}
	if err != nil {
		return grouping.Key{}, &change.Outcome{Kind: change.Invalid, Detail: err.Error()}
	}
	return key, nil
}

func (h *Handler) names() metric.NameScheme {
	if h.cfg.Names == nil {
		return metric.LegacyNames
	}
	return h.cfg.Names()
}

// hostOf returns the host of an address; empty for one that has none, such as a Unix socket's.
func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return host
}

func (h *Handler) readBody(w http.ResponseWriter, r *http.Request, arriving *stallReader, body *Buffer) error {
	limit := h.cfg.Limits.MaxBodyBytes
	if limit > 0 && r.ContentLength > limit {
		return h.tooLarge(limit)
	}
	if r.ContentLength > 0 && r.Header.Get("Content-Encoding") == "" {
		if err := body.Grow(int(min(r.ContentLength, firstGrow))); err != nil {
			return err
		}
	}
	var src io.Reader = arriving
	if limit > 0 {
		src = http.MaxBytesReader(w, io.NopCloser(src), limit)
	}
	err := exposition.Decode(body, src, r.Header.Get("Content-Encoding"), h.cfg.Limits.MaxDecompressedBytes)
	// Without this the deadline of the last read would end the request's context while the pusher works.
	arriving.control.SetReadDeadline(time.Time{}) //nolint:errcheck // Not every ResponseWriter has deadlines; then none was set.
	if err == nil {
		return nil
	}
	if arriving.isOver.Load() {
		err = errEnded()
	}
	var refused *change.Outcome
	var wire *http.MaxBytesError
	switch {
	case errors.Is(err, change.Stalled):
		w.Header().Set("Connection", "close") // as below
		return err
	case errors.As(err, &refused):
		return refused
	case errors.As(err, &wire):
		return h.tooLarge(wire.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close") // or net/http would wait for the rest once more before it answers
		return change.Refuse(change.Stalled, "the body stopped arriving: after %d bytes nothing came for %s, push again", arriving.bytes, bodyStall)
	case errors.Is(err, exposition.ErrTooLarge):
		return change.Refuse(change.TooLarge, "body is larger than %d bytes after decompression (--push.max-decompressed-size)", h.cfg.Limits.MaxDecompressedBytes)
	default:
		if encoding := strings.ToLower(r.Header.Get("Content-Encoding")); encoding == "gzip" || encoding == "snappy" {
			return change.Refuse(change.Invalid, "the header Content-Encoding says %s, and the body cannot be read so (leave the header out if it is not compressed): %v", encoding, err)
		}
		return change.Refuse(change.Invalid, "%v", err)
	}
}

func (h *Handler) tooLarge(limit int64) error {
	return change.Refuse(change.TooLarge, "body is larger than %d bytes (--push.max-body-size)", limit)
}

func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, o change.Outcome) {
	status := o.Kind.Status()
	h.cfg.Logger.Debug("push refused", slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.String("addr", r.RemoteAddr), slog.Int("status", status), slog.String("err", o.Detail))
	message := h.readable(r, o.Detail)
	if o.Kind == change.TimedOut {
		message = fmt.Sprintf("push was not stored within %s; whether it will be is in doubt, push again", h.cfg.Timeout)
	}
	if o.Kind == change.Canceled {
		message = "push was not stored before this program's end; whether it will be is in doubt, push again"
	}
	if o.MayCountTwice {
		message += "; but what is added may then count twice, unless adds come with a header " + OnceHeader
	}
	if o.RetryAfter > 0 {
		seconds := int64((o.RetryAfter + time.Second - 1) / time.Second)
		w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	http.Error(w, message, status)
}

// readable returns a reason in which the groups are named of which the pusher may know.
func (h *Handler) readable(r *http.Request, reason string) string {
	if h.cfg.Sees == nil {
		return reason
	}
	return change.Readable(reason, h.cfg.Sees(r))
}

// stallReader moves the connection's read deadline on with every read, so that a slow body is read to its end and one
// that stopped arriving is not waited for.
type stallReader struct {
	control *http.ResponseController
	body    io.Reader
	movedAt time.Time
	bytes   int64       // that came
	isOver  atomic.Bool // the body is ended, since others wait for its memory
}

// end lets the reading fail, now and from then on. Anybody may call it.
func (s *stallReader) end() {
	s.isOver.Store(true)
	s.control.SetReadDeadline(time.Now()) //nolint:errcheck // See readBody.
}

func (s *stallReader) Read(p []byte) (int, error) {
	// Moving it once a second is enough and keeps a fast body free of timer calls.
	if now := time.Now(); now.Sub(s.movedAt) > time.Second {
		s.control.SetReadDeadline(now.Add(bodyStall)) //nolint:errcheck // See readBody.
		s.movedAt = now
		if s.isOver.Load() {
			s.end() // Its deadline was moved on just now.
		}
	}
	n, err := s.body.Read(p)
	s.bytes += int64(n)
	return n, err
}
