package exposition_test

import (
	"fmt"

	"pushrelay/internal/exposition"
)

func ExampleParser_ParseText() {
	var parser exposition.Parser
	body, err := parser.ParseText([]byte("# TYPE backup_bytes gauge\nbackup_bytes{disk=\"sda\"} 1e9\n"), exposition.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range body.Families {
		for _, m := range body.Metrics[f.Metrics.Start:f.Metrics.End] {
			for _, l := range body.Labels[m.Labels.Start:m.Labels.End] {
				fmt.Printf("%s: %s=%s\n", f.Name, l.Name, l.Value)
			}
			for _, pt := range body.Points[m.Points.Start:m.Points.End] {
				fmt.Printf("%s: %s is %.0f\n", f.Name, pt.Token, pt.Value)
			}
		}
	}
	// Output:
	// backup_bytes: disk=sda
	// backup_bytes: 1e+09 is 1000000000
}

func ExampleParser_ParseText_malformed() {
	var parser exposition.Parser
	_, err := parser.ParseText([]byte("up 1\ndown\n"), exposition.Options{})
	fmt.Println(err)
	// Output: text format parsing error in line 2: expected float as value, got ""
}

func ExampleNegotiate() {
	format, escaping := exposition.Negotiate("text/plain;version=0.0.4;escaping=allow-utf-8", exposition.Offers{})
	fmt.Println(format.ContentType(escaping))
	fmt.Println(exposition.NegotiateEncoding("zstd, gzip;q=0.5"))
	// Output:
	// text/plain; version=0.0.4; charset=utf-8; escaping=allow-utf-8
	// gzip
}
