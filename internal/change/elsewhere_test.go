package change_test

import (
	"strings"
	"testing"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
)

func TestReadable(t *testing.T) {
	mine, secret := keyOf(t, "mine", "x"), keyOf(t, "secret", strings.Repeat("token", 10))
	long := keyOf(t, "secret", strings.Repeat("token", 1000))
	sees := func(k grouping.Key) bool { return k.Job() == "mine" }
	const hidden = " in a group that is not yours to read"
	for reason, want := range map[string]string{
		"":        "",
		"no such": "no such",
		"a" + change.InGroup(mine) + "; b" + change.InGroup(secret) + "; c" + change.InGroup(mine) + ".": "a" + change.InGroup(mine) + "; b" + hidden + "; c" + change.InGroup(mine) + ".",
		"a" + change.InGroup(secret) + "; and 3 more":                                                    "a" + hidden + "; and 3 more",
		"a" + change.InGroup(long) + "; b" + change.InGroup(mine):                                        "a" + hidden, // it was cut
		("a" + change.InGroup(secret))[:60] + "…":                                                        "a" + hidden,
		`x{l=" in group {"} was` + change.InGroup(secret):                                                `x{l="` + hidden,
		`x{l=" in group {job=\"mine\",a=\""} was` + change.InGroup(secret):                               `x{l="` + hidden,
		` in group {job="mine"} in group {job="secret"} in group {job="a"}`:                              change.InGroup(keyOf(t, "mine", "")) + hidden + hidden,
	} {
		got := change.Readable(reason, sees)
		if got != want || strings.Contains(got, "tokentoken") {
			t.Errorf("%q is told as %q, want %q", reason, got, want)
		}
		if all := change.Readable(reason, nil); all != reason {
			t.Errorf("%q is told as %q to who sees all", reason, all)
		}
	}
}

func keyOf(t *testing.T, job, token string) grouping.Key {
	t.Helper()
	labels := []grouping.Label{{Name: "job", Value: job}}
	if token != "" {
		labels = append(labels, grouping.Label{Name: "token", Value: token})
	}
	key, err := grouping.New(labels...)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
