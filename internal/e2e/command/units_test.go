//go:build linux

package command_test

import (
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/program"
)

// TestUnits: systemd finds nothing wrong with the units in deploy/, calls them well shut, and their flags are flags of the
// programs.
func TestUnits(t *testing.T) {
	t.Parallel()
	analyze := program.RequireProgram(t, "/usr/bin/systemd-analyze", "systemd")
	for _, tt := range []struct{ name, program, flags string }{
		{"relay-agent", program.RelayAgent(), "RELAY_AGENT_FLAGS"},
		{"relay-server", program.RelayServer(), "RELAY_SERVER_FLAGS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			deploy, dir := filepath.Join("..", "..", "..", "deploy"), t.TempDir()
			unit := client.ReadFile(t, filepath.Join(deploy, tt.name+".service"))
			// The program has to be there, and is not installed.
			installed := "ExecStart=/usr/local/bin/" + tt.name + " "
			if !strings.Contains(unit, installed) || !strings.Contains(unit, "EnvironmentFile=/etc/"+tt.name+"/"+tt.name+".env\n") {
				t.Fatalf("the unit does not start %s with its flags:\n%s", tt.name, unit)
			}
			file := filepath.Join(dir, tt.name+".service")
			client.WriteFile(t, file, strings.ReplaceAll(unit, installed, "ExecStart="+tt.program+" "))
			wantResult(t, program.Output(t, program.Command{Path: analyze, Args: []string{"verify", file}}), 0, "", "")
			// In tenths, from 0 for a closed box to 100.
			security := program.Output(t, program.Command{Path: analyze, Args: []string{"security", "--offline=true", "--threshold=15", "--no-pager", file}})
			if security.Code != 0 {
				t.Errorf("systemd-analyze security:\n%s%s", security.Stdout, security.Stderr)
			}

			_, line, _ := strings.Cut(unit, installed)
			line, _, _ = strings.Cut(line, "\n")
			args := strings.Fields(strings.ReplaceAll(line, "$"+tt.flags, flagsOf(t, filepath.Join(deploy, tt.name+".env"), tt.flags)))
			if len(args) == 0 {
				t.Fatal("no flags found")
			}
			if r := program.Output(t, program.Command{Path: tt.program, Args: append(args, "--help")}); r.Code != 0 {
				t.Errorf("%s does not know the flags %q: %s", tt.name, args, r.Stderr)
			}
		})
	}
}

// flagsOf returns a variable of an environment file as systemd reads it, quotes and continued lines undone.
func flagsOf(t testing.TB, file, variable string) string {
	t.Helper()
	_, value, found := strings.Cut(strings.ReplaceAll(client.ReadFile(t, file), "\\\n", ""), "\n"+variable+"=\"")
	value, _, ended := strings.Cut(value, "\"\n")
	if !found || !ended {
		t.Fatalf("%s does not set %s", file, variable)
	}
	return value
}
