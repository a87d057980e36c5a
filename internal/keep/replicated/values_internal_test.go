package replicated

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestSealedValues: of a sealed record each bit that is turned over is found, and another key; one that is not sealed is read as well.
func TestSealedValues(t *testing.T) {
	const key = "/test/records/f/job"
	random := make([]byte, 2*packFrom)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	for name, record := range map[string][]byte{"none": {}, "short": []byte("abc"), "packed": []byte(strings.Repeat("done 1\n", packFrom)), "not worth packing": random} {
		for _, sealed := range []bool{false, true} {
			value := pack(key, record, sealed)
			if got, err := unpack(key, value); err != nil || !bytes.Equal(got, record) {
				t.Errorf("%s, sealed %v: %q, %v", name, sealed, got, err)
			}
			if err := CheckValue("/test/", key, value); err != nil {
				t.Errorf("%s, sealed %v: %v", name, sealed, err)
			}
			if !sealed {
				continue
			}
			for bit := range 8 * len(value) {
				value[bit/8] ^= 1 << (bit % 8)
				if got, err := unpack(key, value); err == nil && !bytes.Equal(got, record) {
					t.Errorf("%s: with bit %d turned over it is %q", name, bit, got)
				}
				value[bit/8] ^= 1 << (bit % 8)
			}
			if _, err := unpack(key+"2", value); !errors.Is(err, errSeal) {
				t.Errorf("%s: under another key: %v", name, err)
			}
			for cut := range value {
				if got, err := unpack(key, value[:cut]); err == nil && !bytes.Equal(got, record) {
					t.Errorf("%s: cut off at %d it is %q", name, cut, got)
				}
			}
		}
	}
	for _, other := range []string{"/other/x", "/test/leader", "/test/position", "/test/store"} {
		if err := CheckValue("/test/", other, []byte("x")); err != nil {
			t.Errorf("%s: %v", other, err)
		}
	}
	for _, wrong := range []string{"/test/records/x/job", "/test/recards/f/job"} {
		if err := CheckValue("/test/", wrong, pack(wrong, []byte("a"), true)); err == nil {
			t.Errorf("%s is no key of a store, and nothing is said", wrong)
		}
	}
}
