package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReport(t *testing.T) {
	tests := []struct {
		name string
		in   string
		want string
		ok   bool
	}{
		{
			name: "passed, skipped and a package without tests",
			in: `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:1: noise\n"}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0}
{"Action":"run","Package":"p","Test":"TestA/sub"}
{"Action":"pass","Package":"p","Test":"TestA/sub","Elapsed":0}
{"Action":"output","Package":"p","Test":"TestB","Output":"=== RUN   TestB\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:2: no nft here\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"--- SKIP: TestB (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestB","Elapsed":0}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p","Elapsed":0.1}
{"Action":"skip","Package":"q","Elapsed":0}
`,
			want: `--- SKIP: p TestB
    b_test.go:2: no nft here
ok    p 0.1s (2 passed, 0 failed, 1 skipped)
?     q (no tests)
2 passed, 0 failed, 1 skipped
`,
			ok: true,
		},
		{
			name: "a failure is shown in full",
			in: `{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:1: got 1\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"        want 2\n"}
{"Action":"fail","Package":"p","Test":"TestA","Elapsed":0}
{"Action":"fail","Package":"p","Elapsed":0.2}
`,
			want: `--- FAIL: p TestA
    a_test.go:1: got 1
        want 2
FAIL  p 0.2s (0 passed, 1 failed, 0 skipped)
0 passed, 1 failed, 0 skipped
`,
		},
		{
			name: "a package that does not build is one failure",
			in: `{"ImportPath":"p [p.test]","Action":"build-output","Output":"# p\n./a.go:3: undefined: x\n"}
{"ImportPath":"p [p.test]","Action":"build-fail"}
{"Action":"start","Package":"p"}
{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}
{"Action":"fail","Package":"p","Elapsed":0,"FailedBuild":"p [p.test]"}
`,
			want: `# p
./a.go:3: undefined: x
--- FAIL: p 
FAIL	p [build failed]
FAIL  p 0.0s (0 passed, 1 failed, 0 skipped)
0 passed, 1 failed, 0 skipped
`,
		},
		{
			name: "a run that was cut off",
			in: `{"Action":"pass","Package":"p","Test":"TestA"}
warning: from another tool
`,
			want: `warning: from another tool
FAIL  p did not end (1 passed, 1 failed, 0 skipped)
1 passed, 1 failed, 0 skipped
`,
		},
		{
			name: "nothing at all",
			want: "no test reported anything\n0 passed, 0 failed, 0 skipped\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			r := newReport(&out)
			if err := r.read(strings.NewReader(tt.in)); err != nil {
				t.Fatal(err)
			}
			if ok := r.finish(); ok != tt.ok {
				t.Errorf("finish() = %v, want %v", ok, tt.ok)
			}
			if diff := cmp.Diff(tt.want, out.String()); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
		})
	}
}
