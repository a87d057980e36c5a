package pushgatewayfile

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/metric"
	"pushrelay/internal/series"
)

// Report says what became of an import.
type Report struct {
	// Groups and Families count what the store took over, the two times of each group apart.
	Groups, Families int
	// Kept counts the groups that the store had already; they are newer than the file.
	Kept int
	// Quarantined are the families that were taken over and are not exposed, because they do not fit (S9).
	Quarantined []Refused
	// LeftOut are the groups and families that the store cannot take.
	LeftOut []Refused
}

// Refused is a group, or a family of it, and what is wrong with it.
type Refused struct {
	Group  string
	Family string // empty if it is the whole group
	Reason string
}

// waitEvery is how many bytes are handed to the store's log before the import waits until they are durable, so that the log
// never has to hold back more.
const waitEvery = 16 << 20

// Import hands all groups to the store and waits until they are durable. An error is the log's, or that of ctx; the import
// can be repeated then. Progress is called now and then with the groups done and their number; nil is allowed.
func (f *File) Import(ctx context.Context, store *groupstore.Store, progress func(done, total int64)) (Report, error) {
	present := map[string]bool{}
	for g := range store.Snapshot().Groups() {
		present[g.Key().Canonical()] = true
	}
	im := importer{store: store, present: present}
	done := int64(0)
	for _, name := range slices.Sorted(maps.Keys(f.groups)) {
		if err := im.group(ctx, f.groups[name]); err != nil {
			return im.report, err
		}
		done++
		if progress != nil && done%256 == 0 {
			progress(done, int64(f.Len()))
		}
	}
	if im.wait == nil {
		return im.report, nil
	}
	return im.report, im.wait(ctx)
}

type importer struct {
	store   *groupstore.Store
	present map[string]bool // the canonical keys of the groups that were there before
	parser  exposition.Parser
	report  Report
	wait    func(context.Context) error // for the last group
	unsaved int                         // bytes since the last wait
}

// options take all names that any Pushgateway may have taken, in any number.
var options = exposition.Options{Names: metric.UTF8Names}

func (im *importer) group(ctx context.Context, g fileGroup) error {
	labels := make([]grouping.Label, 0, len(g.Labels))
	for name, value := range g.Labels {
		labels = append(labels, grouping.Label{Name: name, Value: value})
	}
	key, err := grouping.New(labels...)
	if err != nil {
		im.report.LeftOut = append(im.report.LeftOut, Refused{Group: fmt.Sprintf("%q", g.Labels), Reason: err.Error()})
		return nil //nolint:nilerr // The other groups are sound; the report has the reason.
	}
	if im.present[key.Canonical()] {
		im.report.Kept++
		return nil
	}
	in := &groupstore.Import{Key: key, FamilyPushedAt: map[string]time.Time{}}
	in.PushedAt = timeOf(g.Metrics[series.PushTimeFamily])
	in.FailedAt = timeOf(g.Metrics[series.FailureTimeFamily])
	size := im.parse(in, g)
	quarantined, wait, err := im.store.Import(in)
	if err != nil {
		return err
	}
	im.report.Groups++
	im.report.Families += len(in.Body.Families)
	for _, q := range quarantined {
		im.report.Quarantined = append(im.report.Quarantined, Refused{key.String(), q.Family, q.Reason})
	}
	im.wait = wait
	if im.unsaved += size; im.unsaved > waitEvery && wait != nil {
		im.unsaved = 0
		return wait(ctx)
	}
	return nil
}

// parse reads the families of a group. One that cannot be taken is left out; the others stay.
func (im *importer) parse(in *groupstore.Import, g fileGroup) (size int) {
	var good []string
	for _, name := range slices.Sorted(maps.Keys(g.Metrics)) {
		f := g.Metrics[name]
		if name == series.PushTimeFamily || name == series.FailureTimeFamily {
			continue
		}
		if f.GobbableMetricFamily == nil {
			continue // an empty family of an old Pushgateway
		}
		in.FamilyPushedAt[name] = f.Timestamp
		good = append(good, name)
	}
	body, err := im.parser.ParseProtobuf(delimited(g, good), options)
	if err != nil {
		good = slices.DeleteFunc(good, func(name string) bool { return im.leaveOut(in.Key, name, g) })
		if body, err = im.parser.ParseProtobuf(delimited(g, good), options); err != nil {
			// Each is sound by itself and all together are not: two have one name.
			im.report.LeftOut = append(im.report.LeftOut, Refused{in.Key.String(), "", err.Error()})
			body = &exposition.Body{}
		}
	}
	in.Body = body
	for _, name := range good {
		size += len(*g.Metrics[name].GobbableMetricFamily)
	}
	return size
}

// leaveOut says whether a family by itself cannot be taken, and notes why.
func (im *importer) leaveOut(key grouping.Key, name string, g fileGroup) bool {
	_, err := im.parser.ParseProtobuf(delimited(g, []string{name}), options)
	if err != nil {
		im.report.LeftOut = append(im.report.LeftOut, Refused{key.String(), name, err.Error()})
	}
	return err != nil
}

// delimited returns the families as a body in delimited protobuf.
func delimited(g fileGroup, names []string) []byte {
	var b []byte
	for _, name := range names {
		m := *g.Metrics[name].GobbableMetricFamily
		b = append(binary.AppendUvarint(b, uint64(len(m))), m...)
	}
	return b
}

// timeOf returns the time that one of a group's two time families says; zero for never. The file has it twice: as the
// family's value, which is rounded, and as the time at which the family was written. The latter is taken if it means the
// same.
func timeOf(f fileFamily) time.Time {
	if f.GobbableMetricFamily == nil {
		return time.Time{}
	}
	var mf dto.MetricFamily
	if err := proto.Unmarshal(*f.GobbableMetricFamily, &mf); err != nil || len(mf.Metric) == 0 {
		return time.Time{}
	}
	seconds := mf.Metric[0].GetGauge().GetValue()
	if !(seconds > 0 && seconds < maxSeconds) {
		return time.Time{}
	}
	if float64(f.Timestamp.UnixNano())/1e9 == seconds {
		return f.Timestamp
	}
	return time.Unix(0, int64(math.Round(seconds*1e9)))
}

// maxSeconds is beyond what a time in nanoseconds can be.
const maxSeconds = 9e9
