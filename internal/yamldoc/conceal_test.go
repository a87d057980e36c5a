package yamldoc_test

import (
	"testing"

	"pushrelay/internal/yamldoc"
)

func TestConceal(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"line 3: cannot unmarshal !!str `hunter2` into config.plain", "line 3: cannot unmarshal !!str into config.plain"},
		{"line 3: cannot unmarshal !!str `hu` into b` into config.plain", "line 3: cannot unmarshal !!str into config.plain"},
		{"line 3: cannot unmarshal !!str `hunter2` into a; line 4: cannot unmarshal !!str `hunter2` into b", "line 3: cannot unmarshal !!str into a; line 4: cannot unmarshal !!str into b"},
		{"line 3: cannot unmarshal !!map into config.plain", "line 3: cannot unmarshal !!map into config.plain"},
		{"cannot decode !!str `a `hunter2` as a !!int` as a !!int", "cannot decode !!str as a !!int"},
		{"line 3: field user not found in type config.plain", `line 3: field "user" not found in type config.plain`},
		{"line 3: field a hunter2 not found in type x; line 4: field key:hunter2 already set in type y", `line 3: field "a…" not found in type x; line 4: field "key…" (a blank belongs after its colon) already set in type y`},
		{"unknown anchor 'hunter2' referenced", "a value that begins with * stands for another one, which is not there: put it in quotes if it is none of these"},
		{`invalid map key: map[string]interface {}{"hunter2":1}`, "invalid map key"},
		{"line 2: found unknown escape character", "line 2: found unknown escape character"},
	} {
		if got := yamldoc.Conceal(tt.text); got != tt.want {
			t.Errorf("Conceal(%q) = %q, want %q", tt.text, got, tt.want)
		}
	}
}
