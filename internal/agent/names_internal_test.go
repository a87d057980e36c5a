package agent

import "testing"

func TestFitName(t *testing.T) {
	for host, want := range map[string]string{
		"site-a": "site-a", "Site_A": "site-a", "web-1.example.org": "web-1.example.org", "WIN-7": "win-7", "host.": "host",
		"": "", "höst": "", "-": "", "a b": "",
	} {
		if got := fitName(host); got != want {
			t.Errorf("fitName(%q) = %q, want %q", host, got, want)
		}
	}
}
