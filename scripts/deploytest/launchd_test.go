package deploytest_test

import (
	"strings"
	"testing"

	"howett.net/plist"
)

// TestLaunchd: the property list is one, and starts the agent with flags that it has; the page that installs it makes the file that its user logs to. No macOS is
// here to load it.
func TestLaunchd(t *testing.T) {
	var job struct {
		Label             string
		ProgramArguments  []string
		UserName          string
		RunAtLoad         bool
		KeepAlive         map[string]bool
		StandardErrorPath string
	}
	if _, err := plist.Unmarshal([]byte(read(t, "../../deploy/launchd/org.pushrelay.relay-agent.plist")), &job); err != nil {
		t.Fatal(err)
	}
	again, said := job.KeepAlive["SuccessfulExit"]
	if job.Label != "org.pushrelay.relay-agent" || job.UserName == "" || !job.RunAtLoad || !said || again || job.ProgramArguments[0] != "/usr/local/bin/relay-agent" {
		t.Errorf("%+v", job)
	}
	if step := "sudo install -m 0644 -o " + job.UserName + " /dev/null " + job.StandardErrorPath + "\n"; !strings.Contains(read(t, "../../docs/how-to/install.md"), step) {
		t.Errorf("the page does not say %s", step)
	}
	checkArgs(t, "relay-agent", job.ProgramArguments[1:])
}
