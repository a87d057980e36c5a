//go:build linux

package conformance_test

import (
	"net/http"

	"pushrelay/internal/e2e/gateway"
)

// The reasons of behaviours that Debian's Pushgateway does not share.
const (
	later       = "came after 1.5.1"
	poison      = "takes the reference down"
	stuck       = "1.5.1 answers no push to a job in base64 any more"
	permanently = "1.5.1 redirects with 301; the redirect itself is the same"
)

// redirected expects the redirect of a path that is not clean.
func redirected(method, path, location string) gateway.Request {
	return gateway.Ask(method, path, http.StatusTemporaryRedirect).Wanting("Location", location)
}

var pathBehaviours = []behaviour{
	{
		name: "put to a job", do: []gateway.Request{gateway.Put("/job/j", "a 1\n")},
		want: "a{instance=\"\",job=\"j\"} 1\ngroup{instance=\"\",job=\"j\"} pushed",
	},
	{
		name: "labels of the path stand on every series of the group", do: []gateway.Request{gateway.Put("/job/j/k/v", "m 1\n")},
		want: `
			m{instance="",job="j",k="v"} 1
			group{instance="",job="j",k="v"} pushed`,
	},
	{
		name: "the last of two labels of one name wins", do: []gateway.Request{gateway.Put("/job/j/a/1/a/2", "m 1\n")},
		// A quirk that is kept: nobody can have meant both, and clients that do it work.
		want: `
			m{a="2",instance="",job="j"} 1
			group{a="2",instance="",job="j"} pushed`,
	},
	{
		name: "the first job of the path wins", do: []gateway.Request{gateway.Put("/job/j/job/other", "m 1\n")},
		// Kept, as above.
		want: `
			m{instance="",job="j"} 1
			group{instance="",job="j"} pushed`,
	},
	{
		name: "slash at the end", do: []gateway.Request{gateway.Put("/job/j/", "m 1\n")},
		want: `
			m{instance="",job="j"} 1
			group{instance="",job="j"} pushed`,
	},
	{
		name: "odd number of components", do: []gateway.Request{
			gateway.Put("/job/j/foo", "m 1\n").Refused("odd number of components in label string \"/foo\"\n"),
			gateway.Put("/job/j/foo/bar/", "m 1\n").Refused("odd number of components in label string \"/foo/bar/\"\n"),
		},
	},
	{
		name: "empty value at the end", do: []gateway.Request{gateway.Put("/job/j/foo/", "m 1\n")},
		// Kept: it says what is meant.
		want: `
			m{foo="",instance="",job="j"} 1
			group{foo="",instance="",job="j"} pushed`,
	},
	{
		name: "empty value in base64", do: []gateway.Request{gateway.Put("/job/j/l@base64/=", "m 1\n"), gateway.Put("/job/j/l@base64/==/m/n", "m 1\n")},
		want: `
			m{instance="",job="j",l=""} 1
			group{instance="",job="j",l=""} pushed
			m{instance="",job="j",l="",m="n"} 1
			group{instance="",job="j",l="",m="n"} pushed`,
	},
	{
		name: "base64 with any padding is one job", do: []gateway.Request{
			gateway.Put("/job@base64/dGVzdC9qb2I=", "a 1\n"), gateway.Post("/job@base64/dGVzdC9qb2I", "b 1\n"), gateway.Post("/job@base64/dGVzdC9qb2I===", "c 1\n"),
		},
		want: `
			a{instance="",job="test/job"} 1
			b{instance="",job="test/job"} 1
			c{instance="",job="test/job"} 1
			group{instance="",job="test/job"} pushed`,
	},
	{
		name: "base64 label", do: []gateway.Request{gateway.Put("/job/j/path@base64/L3Zhci90bXA", "m 1\n")},
		want: `
			m{instance="",job="j",path="/var/tmp"} 1
			group{instance="",job="j",path="/var/tmp"} pushed`,
	},
	{
		name: "base64 is URL-safe", do: []gateway.Request{
			gateway.Put("/job@base64/Pz8_", "m 1\n"),
			gateway.Put("/job/j/l@base64/foo.bar/k/v", "m 1\n").Refused("invalid base64 encoding for label l=\"foo.bar\": illegal base64 data at input byte 3\n"),
		},
		want: `
			m{instance="",job="???"} 1
			group{instance="",job="???"} pushed`,
	},
	{
		name: "jobs in base64 that are none", unlike: stuck, do: []gateway.Request{
			gateway.Put("/job@base64/a+b", "m 1\n").Refused("invalid base64 encoding in job name"),
			gateway.Put("/job@base64/a+b", "m 1\n").Refused("illegal base64 data at input byte 1\n"),
			gateway.Put("/job@base64/=", "m 1\n").Refused("job name is required\n"),
		},
	},
	{
		name: "no job at all", do: []gateway.Request{
			gateway.Ask(http.MethodPut, "/metrics/job", http.StatusNotFound).Saying("404 page not found\n"),
		},
	},
	{
		// The reference redirects to a page that is not there, or to the group of another job. Most clients take that for
		// an answer, and curl --fail for a good one.
		name: "empty job", unlike: "redirects", do: []gateway.Request{
			gateway.Put("/job/", "m 1\n").Refused("job name is required\n"),
			gateway.Post("/job//instance/x", "m 1\n").Refused("job name is required\n"),
			gateway.Del("/job//instance/x", "").Refused("job name is required\n"),
		},
	},
	{
		// The reference redirects to a path whose names and values have changed places.
		name: "empty value within the path", unlike: "redirects", do: []gateway.Request{
			gateway.Put("/job/j/foo//bar/x", "m 1\n").Refused("label \"foo\" has an empty value in the path of a push: write it as foo@base64/=\n"),
			gateway.Put("/job/j/foo/../bar/x", "m 1\n").Refused("the path of a push cannot have the segment \"..\""),
		},
	},
	{
		// The redirect is kept where it leads to the group that was meant.
		name: "doubled slashes elsewhere", unlike: permanently, do: []gateway.Request{
			redirected(http.MethodPut, "/metrics/job/j//foo/x", "/metrics/job/j/foo/x"),
			redirected(http.MethodPut, "//metrics/job/j", "/metrics/job/j"),
		},
	},
	{
		name: "the path's case is put right", unlike: permanently, do: []gateway.Request{
			redirected(http.MethodPut, "/metrics/Job/j", "/metrics/job/j"),
		},
	},
	{
		name: "an escaped slash is a slash", do: []gateway.Request{
			gateway.Put("/job/a%2Fb", "m 1\n").Refused("odd number of components in label string \"/b\"\n"),
			// A quirk that is kept: some clients escape the whole rest of the path.
			gateway.Put("/job/j/k%2Fa%2Fb%2Fz", "m 1\n"),
		},
		want: `
			m{b="z",instance="",job="j",k="a"} 1
			group{b="z",instance="",job="j",k="a"} pushed`,
	},
	{
		// The reference stores what nobody meant, or redirects. The right way is written out.
		name: "an escaped slash beside literal ones", unlike: "takes the value apart", do: []gateway.Request{
			gateway.Put("/job/j/branch/a%2Fb%2Fc", "m 1\n").Refused("write it as branch@base64/YS9iL2M\n"),
			gateway.Post("/job/j/k/a%2Fb/z", "m 1\n").Refused("write it as k@base64/YS9i\n"),
			gateway.Put("/job/j/path/%2Fvar%2Ftmp", "m 1\n").Refused("write it as path@base64/L3Zhci90bXA\n"),
			gateway.Del("/job/a%2Fb/instance/x", "").Refused("write it as job@base64/YS9i\n"),
			gateway.Put("/job/j/branch@base64/YS9iL2M", "m 1\n"),
		},
		want: `
			m{branch="a/b/c",instance="",job="j"} 1
			group{branch="a/b/c",instance="",job="j"} pushed`,
	},
	{
		name: "percent encoding", do: []gateway.Request{
			gateway.Put("/job/a%20b/k/c%25d", "m 1\n"), gateway.Put("/job/%CE%A0/k/%CE%A0", "m 1\n"), gateway.Put("/job/a+b", "m 1\n"),
		},
		want: `
			m{instance="",job="a b",k="c%d"} 1
			group{instance="",job="a b",k="c%d"} pushed
			m{instance="",job="Π",k="Π"} 1
			group{instance="",job="Π",k="Π"} pushed
			m{instance="",job="a+b"} 1
			group{instance="",job="a+b"} pushed`,
	},
	{
		name: "values that are no UTF-8", unlike: poison, do: []gateway.Request{
			gateway.Put("/job/j/k@base64/_w", "m 1\n").Refused("UTF-8"), gateway.Put("/job/j/k/%FF", "m 1\n").Refused("UTF-8"), gateway.Put("/job/%FF", "m 1\n").Refused("UTF-8"),
		},
	},
	{
		name: "improper label names", do: []gateway.Request{
			gateway.Put("/job/j/a=b/x", "m 1\n").Refused("improper label name \"a=b\"\n"),
			gateway.Put("/job/j/a-b/x", "m 1\n").Refused("improper label name \"a-b\"\n"),
			gateway.Put("/job/j/a.b/x", "m 1\n").Refused("improper label name \"a.b\"\n"),
			gateway.Put("/job/j/a:b/x", "m 1\n").Refused("improper label name \"a:b\"\n"),
			gateway.Put("/job/j/1a/x", "m 1\n").Refused("improper label name \"1a\"\n"),
			gateway.Put("/job/j/%CE%A0/x", "m 1\n").Refused("improper label name \"Π\"\n"),
			gateway.Put("/job/j/__foo/x", "m 1\n").Refused("improper label name \"__foo\"\n"),
			gateway.Put("/job/j/__name__/x", "m 1\n").Refused("improper label name \"__name__\"\n"),
			gateway.Put("/job/j/@base64/x", "m 1\n").Refused("improper label name \"\"\n"),
			gateway.Put("/job/j/a@base64@base64/eA", "m 1\n").Refused("improper label name \"a@base64\"\n"),
		},
	},
	{
		name: "label names that look special and are not", do: []gateway.Request{
			gateway.Put("/job/j/_foo/x", "m 1\n"), gateway.Put("/job/j/le/x", "m 1\n"), gateway.Put("/job/j/quantile/x", "m 1\n"), gateway.Put("/job/j/U__foo_2e_bar/x", "m 1\n"),
		},
		want: `
			m{_foo="x",instance="",job="j"} 1
			group{_foo="x",instance="",job="j"} pushed
			m{instance="",job="j",le="x"} 1
			group{instance="",job="j",le="x"} pushed
			m{instance="",job="j",quantile="x"} 1
			group{instance="",job="j",quantile="x"} pushed
			m{U__foo_2e_bar="x",instance="",job="j"} 1
			group{U__foo_2e_bar="x",instance="",job="j"} pushed`,
	},
	{
		name: "the query is ignored", do: []gateway.Request{gateway.Put("/job/j?instance=x", "m 1\n")},
		want: `
			m{instance="",job="j"} 1
			group{instance="",job="j"} pushed`,
	},
}

var utf8Behaviours = []behaviour{
	{
		name: "escaped and raw names", do: []gateway.Request{
			gateway.Put("/job/j/U__foo_2e_bar/x", "m 1\n"), gateway.Put("/job/j/U__foo_2e_bar@base64/YmF6", "m 1\n"), gateway.Post("/job/j/foo.bar/x", "n 1\n"),
		},
		want: `
			m{foo_bar="x",instance="",job="j"} 1
			n{foo_bar="x",instance="",job="j"} 1
			group{foo_bar="x",instance="",job="j"} pushed
			m{foo_bar="baz",instance="",job="j"} 1
			group{foo_bar="baz",instance="",job="j"} pushed`,
	},
	{
		name: "a name that cannot be unescaped is unchanged", do: []gateway.Request{gateway.Put("/job/j/U__in_xxx_valid/x", "m 1\n")},
		want: `
			m{U__in_xxx_valid="x",instance="",job="j"} 1
			group{U__in_xxx_valid="x",instance="",job="j"} pushed`,
	},
	{
		name: "an escaped name may decode to one that looks escaped", do: []gateway.Request{gateway.Put("/job/j/U___55_____foo__2e__bar/x", "m 1\n")},
		want: `
			m{U__foo_2e_bar="x",instance="",job="j"} 1
			group{U__foo_2e_bar="x",instance="",job="j"} pushed`,
	},
	{
		name: "improper names", do: []gateway.Request{
			gateway.Put("/job/j/U__/x", "m 1\n").Refused("improper label name"), gateway.Put("/job/j/__foo/x", "m 1\n").Refused("improper label name"),
			gateway.Put("/job/j/%FF/x", "m 1\n").Refused("improper label name"),
		},
	},
	{
		name: "names in bodies and how they are exposed", do: []gateway.Request{
			gateway.Put("/job/j", "{\"my.metric\",\"lab.el\"=\"v\"} 1\n"),
			gateway.Ask(http.MethodGet, "/metrics", http.StatusOK).With("Accept", "text/plain;version=0.0.4;escaping=allow-utf-8").
				Answered(http.StatusOK, `{"my.metric",instance="",job="j","lab.el"="v"} 1`),
			gateway.Ask(http.MethodGet, "/metrics", http.StatusOK).With("Accept", "text/plain;version=0.0.4;escaping=values").
				Answered(http.StatusOK, `U__my_2e_metric{instance="",job="j",U__lab_2e_el="v"} 1`),
			gateway.Ask(http.MethodGet, "/metrics", http.StatusOK).With("Accept", "text/plain;version=0.0.4;escaping=dots").
				Answered(http.StatusOK, `my_dot_metric{instance="",job="j",lab_dot_el="v"} 1`),
		},
		want: `
			my_metric{instance="",job="j",lab_el="v"} 1
			group{instance="",job="j"} pushed`,
	},
}
