package textfile_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"pushrelay/internal/textfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCheck(t *testing.T) {
	dirs := func(d ...textfile.Directory) []textfile.Directory { return d }
	labels := func(name, value string) map[string]string { return map[string]string{name: value} }
	for _, tt := range []struct {
		name  string
		dirs  []textfile.Directory
		index int
		want  string // nothing if they are good
	}{
		{name: "none"},
		{name: "two", dirs: dirs(textfile.Directory{Path: "/a", Job: "j"}, textfile.Directory{Path: "/b", Job: "j", Labels: labels("zone", "z")})},
		{name: "no directory", dirs: dirs(textfile.Directory{Job: "j"}), want: "directory is missing"},
		{name: "no job", dirs: dirs(textfile.Directory{Path: "/a"}), want: "job is missing: it is the label job of what is in /a"},
		{name: "job as a label", dirs: dirs(textfile.Directory{Path: "/a", Job: "j", Labels: labels("job", "k")}), want: "labels: job is not a label here: write it as job: k beside directory"},
		{name: "textfile as a label", dirs: dirs(textfile.Directory{Path: "/a", Job: "j", Labels: labels("textfile", "k")}), want: "labels: the label textfile holds the name of the file and cannot be set"},
		{name: "empty label", dirs: dirs(textfile.Directory{Path: "/a", Job: "j", Labels: labels("zone", "")}), want: "labels: zone has an empty value, which is as good as no label: leave it out"},
		{name: "label name", dirs: dirs(textfile.Directory{Path: "/a", Job: "j", Labels: labels("a-b", "c")}), want: `labels: improper label name "a-b"`},
		{name: "reserved label name", dirs: dirs(textfile.Directory{Path: "/a", Job: "j", Labels: labels("__b", "c")}), want: `labels: improper label name "__b"`},
		{name: "label value", dirs: dirs(textfile.Directory{Path: "/a", Job: "j", Labels: labels("b", "\xff")}), want: `grouping label "b" has a value that is not valid UTF-8`},
		{name: "life", dirs: dirs(textfile.Directory{Path: "/a", Job: "j", Every: "1d", Grace: "none", TTL: "0"})},
		{name: "every", dirs: dirs(textfile.Directory{Path: "/b", Job: "k"}, textfile.Directory{Path: "/a", Job: "j", Every: "15 3 * * *"}), index: 1, want: `every is "15 3 * * *", want a duration such as 30m or 1d12h of at most 100y, 0 to take back what was declared, or none`},
		{name: "ttl", dirs: dirs(textfile.Directory{Path: "/a", Job: "j", TTL: "200y"}), want: `ttl is "200y", want a duration such as 30m or 1d12h of at most 100y, 0 to take back what was declared, or none`},
		{name: "directory twice", dirs: dirs(textfile.Directory{Path: "/a", Job: "j"}, textfile.Directory{Path: "/a/", Job: "k"}), index: 1, want: "directory /a/ comes twice"},
		{
			name: "groups twice", dirs: dirs(textfile.Directory{Path: "/a", Job: "j"}, textfile.Directory{Path: "/b", Job: "j"}),
			index: 1, want: "job and labels are those of directory /a: files of one name would be one group; add a label to one of the two",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			index, err := textfile.Check(tt.dirs)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || err.Error() != tt.want) || index != tt.index {
				t.Errorf("Check = %d, %v, want %d, %s", index, err, tt.index, tt.want)
			}
			err = textfile.New(textfile.Config{Registerer: prometheus.NewRegistry()}).Apply(tt.dirs)
			if (err == nil) != (tt.want == "") || err != nil && !strings.HasSuffix(err.Error(), tt.want) {
				t.Errorf("Apply = %v, want %s", err, tt.want)
			}
		})
	}
}
