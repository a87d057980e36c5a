package grouping_test

import (
	"net/url"
	"path"
	"strings"
	"testing"

	"pushrelay/internal/grouping"
	"pushrelay/internal/metric"
)

// The numbers are the rows of the conformance table of the push API.
func TestFromPath(t *testing.T) {
	const legacy, utf8 = metric.LegacyNames, metric.UTF8Names
	p := func(job, labels string) grouping.Path { return grouping.Path{Job: job, Labels: labels} }
	b64 := func(job string) grouping.Path { return grouping.Path{Job: job, JobBase64: true} }
	tests := []struct {
		name  string
		path  grouping.Path
		names metric.NameScheme
		want  string // String() of the key, or the text of the error
	}{
		{"17 one label", p("j", "/k/v"), legacy, `{job="j",k="v"}`},
		{"18 last of a name wins", p("j", "/a/1/a/2"), legacy, `{job="j",a="2"}`},
		{"19 job of the path wins", p("j", "/job/other"), legacy, `{job="j"}`},
		{"20 lone slash", p("j", "/"), legacy, `{job="j"}`},
		{"no labels", p("j", ""), legacy, `{job="j"}`},
		{"21 odd", p("j", "/foo"), legacy, `odd number of components in label string "/foo"`},
		{"22 empty value at the end", p("j", "/foo/"), legacy, `{job="j",foo=""}`},
		{"23 odd with slash", p("j", "/foo/bar/"), legacy, `odd number of components in label string "/foo/bar/"`},
		{"24 empty value in base64", p("j", "/l@base64/="), legacy, `{job="j",l=""}`},
		{"25 two signs of padding", p("j", "/l@base64/==/m/n"), legacy, `{job="j",l="",m="n"}`},
		{"26 job in base64, padded", b64("dGVzdC9qb2I="), legacy, `{job="test/job"}`},
		{"26 job in base64, no padding", b64("dGVzdC9qb2I"), legacy, `{job="test/job"}`},
		{"26 job in base64, wrong padding", b64("dGVzdC9qb2I==="), legacy, `{job="test/job"}`},
		{"27 slashes", p("j", "/path@base64/L3Zhci90bXA"), legacy, `{job="j",path="/var/tmp"}`},
		{"28 alphabet for URLs", b64("Pz8_"), legacy, `{job="???"}`},
		{"29 standard alphabet", b64("a+b"), legacy, `invalid base64 encoding in job name "": illegal base64 data at input byte 1`},
		{"30 no base64", p("j", "/l@base64/foo.bar/k/v"), legacy, `invalid base64 encoding for label l="foo.bar": illegal base64 data at input byte 3`},
		{"31 empty job in base64", b64("="), legacy, "job name is required"},
		{"empty job", p("", ""), legacy, "job name is required"},
		{"labels are looked at before an empty job", p("", "/foo"), legacy, `odd number of components in label string "/foo"`},
		{"36 slash in the job", p("a", "/b"), legacy, `odd number of components in label string "/b"`},
		{"37 slash in a value", p("j", "/k/a/b/z"), legacy, `{job="j",b="z",k="a"}`},
		{"38 space and percent", p("a b", "/k/c%d"), legacy, `{job="a b",k="c%d"}`},
		{"39 not ASCII", p("Π", "/k/Π"), legacy, `{job="Π",k="Π"}`},
		{"40 plus", p("a+b", ""), legacy, `{job="a+b"}`},
		{"41 equals sign", p("j", "/a=b/x"), legacy, `improper label name "a=b"`},
		{"41 hyphen", p("j", "/a-b/x"), legacy, `improper label name "a-b"`},
		{"41 dot", p("j", "/a.b/x"), legacy, `improper label name "a.b"`},
		{"41 colon", p("j", "/a:b/x"), legacy, `improper label name "a:b"`},
		{"41 digit", p("j", "/1a/x"), legacy, `improper label name "1a"`},
		{"41 not ASCII", p("j", "/Π/x"), legacy, `improper label name "Π"`},
		{"42 reserved", p("j", "/__foo/x"), legacy, `improper label name "__foo"`},
		{"42 name of the metric", p("j", "/__name__/x"), legacy, `improper label name "__name__"`},
		{"43 underscore", p("j", "/_foo/x"), legacy, `{job="j",_foo="x"}`},
		{"43 le and quantile", p("j", "/le/x/quantile/y"), legacy, `{job="j",le="x",quantile="y"}`},
		{"44 no name before base64", p("j", "/@base64/x"), legacy, `improper label name ""`},
		{"44 base64 twice", p("j", "/a@base64@base64/eA"), legacy, `improper label name "a@base64"`},
		{"empty name", p("j", "//x"), legacy, `improper label name ""`},
		{"45 escaped name, taken literally", p("j", "/U__foo_2e_bar/x"), legacy, `{job="j",U__foo_2e_bar="x"}`},
		{"46 escaped name", p("j", "/U__foo_2e_bar/x"), utf8, `{job="j","foo.bar"="x"}`},
		{"47 escaped name and base64", p("j", "/U__foo_2e_bar@base64/YmF6"), utf8, `{job="j","foo.bar"="baz"}`},
		{"48 name as it is", p("j", "/foo.bar/x"), utf8, `{job="j","foo.bar"="x"}`},
		{"49 escaped name that is none", p("j", "/U__in_xxx_valid/x"), utf8, `{job="j",U__in_xxx_valid="x"}`},
		{"50 escaped prefix", p("j", "/U___55_____foo__2e__bar/x"), utf8, `{job="j",U__foo_2e_bar="x"}`},
		{"51 prefix alone", p("j", "/U__/x"), utf8, `improper label name "U__"`},
		{"51 reserved", p("j", "/__foo/x"), utf8, `improper label name "__foo"`},
		{"51 name not UTF-8", p("j", "/\xff/x"), utf8, `improper label name "\xff"`},
		{"decodes to one underscore", p("j", "/U____foo/x"), utf8, `{job="j",_foo="x"}`},
		{"decodes to a slash", p("j", "/U__a_2F_b/x"), utf8, `{job="j","a/b"="x"}`},
		{"decodes to a reserved name", p("j", "/U______foo/x"), utf8, `improper label name "U______foo"`},
		{"decodes to job", p("j", "/U__job/x"), utf8, `{job="j"}`},
		{"value not UTF-8", p("j", "/k/\xff"), legacy, `grouping label "k" has a value that is not valid UTF-8`},
		{"value not UTF-8 in base64", p("j", "/k@base64/_w"), legacy, `grouping label "k" has a value that is not valid UTF-8`},
		{"job not UTF-8", p("\xff", ""), legacy, `grouping label "job" has a value that is not valid UTF-8`},
		{"NUL", p("j", "/k/\x00"), legacy, `{job="j",k="\x00"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k, err := grouping.FromPath(tt.path, tt.names)
			if err != nil {
				if err.Error() != tt.want {
					t.Errorf("FromPath(%+v) returned the error %q, want %s", tt.path, err, tt.want)
				}
				return
			}
			if k.String() != tt.want {
				t.Errorf("FromPath(%+v) = %v, want %s", tt.path, k, tt.want)
			}
			checkRoundTrip(t, k, tt.names)
		})
	}
}

func TestPath(t *testing.T) {
	tests := []struct {
		labels []grouping.Label
		names  metric.NameScheme
		want   string
	}{
		{[]grouping.Label{{"job", "j"}}, metric.LegacyNames, "job/j"},
		{[]grouping.Label{{"job", "j"}, {"b", "2"}, {"a", "1"}, {"z", "3"}}, metric.LegacyNames, "job/j/a/1/b/2/z/3"},
		{[]grouping.Label{{"job", "a/b"}}, metric.LegacyNames, "job@base64/YS9i"},
		{[]grouping.Label{{"job", "j"}, {"k", ""}}, metric.LegacyNames, "job/j/k@base64/="},
		{[]grouping.Label{{"job", ".."}, {"k", "."}}, metric.LegacyNames, "job@base64/Li4/k@base64/Lg"},
		{[]grouping.Label{{"job", "a b"}, {"k", "c%d"}}, metric.LegacyNames, "job/a%20b/k/c%25d"},
		{[]grouping.Label{{"job", "Π"}, {"k", "?#;+"}}, metric.LegacyNames, "job/%CE%A0/k/%3F%23%3B+"},
		{[]grouping.Label{{"job", "j"}, {"k", "\x00"}}, metric.LegacyNames, "job/j/k@base64/AA"},
		{[]grouping.Label{{"job", "j"}, {"foo.bar", "x"}}, metric.UTF8Names, "job/j/U__foo_2e_bar/x"},
		{[]grouping.Label{{"job", "j"}, {"U__foo_2e_bar", "x"}}, metric.LegacyNames, "job/j/U__foo_2e_bar/x"},
		{[]grouping.Label{{"job", "j"}, {"U__foo_2e_bar", "x"}}, metric.UTF8Names, "job/j/U__U____foo__2e__bar/x"},
		{[]grouping.Label{{"job", "j"}, {"a\U0010FFFF/b@base64", "x"}}, metric.UTF8Names, "job/j/U__a%F4%8F%BF%BF_2f_b_40_base64/x"},
	}
	for _, tt := range tests {
		k := mustNew(t, tt.labels...)
		if got := k.PathFor(tt.names); got != tt.want {
			t.Errorf("PathFor(%d) of %v = %s, want %s", tt.names, k, got, tt.want)
		}
		checkRoundTrip(t, k, tt.names)
	}
}

// FuzzFromPath looks for a path whose key does not come back from the path it is written as.
func FuzzFromPath(f *testing.F) {
	f.Add("j", "/k/v/instance@base64/=", false, false)
	f.Add("dGVzdC9qb2I=", "", true, false)
	f.Add("..", "/U__a_2F_b\U0010FFFF/./U___55___x/\x7f", false, true)
	f.Add("j", "/U__foo_2e_bar/x/foo.bar/y/a@base64@base64/eA", false, true)
	f.Fuzz(func(t *testing.T, job, labels string, jobBase64, utf8Names bool) {
		if labels != "" && labels[0] != '/' {
			return
		}
		names := metric.LegacyNames
		if utf8Names {
			names = metric.UTF8Names
		}
		k, err := grouping.FromPath(grouping.Path{Job: job, JobBase64: jobBase64, Labels: labels}, names)
		if err != nil {
			if !k.IsZero() {
				t.Errorf("FromPath returned %v beside the error %v", k, err)
			}
			return
		}
		checkRoundTrip(t, k, names)
		if again := mustNew(t, k.Labels()...); again != k {
			t.Errorf("New of the labels of %v = %v", k, again)
		}
	})
}

// checkRoundTrip does with the path of a key what an HTTP server does with it, and makes a key of it again.
func checkRoundTrip(tb testing.TB, k grouping.Key, names metric.NameScheme) {
	tb.Helper()
	u, err := url.Parse("http://relay:9091/metrics/" + k.PathFor(names))
	if err != nil {
		tb.Fatalf("the path of %v does not fit into a URL: %v", k, err)
	}
	if u.RawQuery != "" || u.Fragment != "" || path.Clean(u.Path) != u.Path {
		tb.Fatalf("the path of %v is not kept whole: %q", k, u)
	}
	var p grouping.Path
	first, rest, _ := strings.Cut(strings.TrimPrefix(u.Path, "/metrics/"), "/")
	p.JobBase64 = first == "job@base64"
	p.Job, p.Labels, _ = strings.Cut(rest, "/")
	if p.Labels != "" {
		p.Labels = "/" + p.Labels
	}
	again, err := grouping.FromPath(p, names)
	if err != nil || again != k {
		tb.Fatalf("FromPath(%+v) = %v, %v, want %v", p, again, err, k)
	}
}
