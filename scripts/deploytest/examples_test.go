package deploytest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v3"
)

// TestCompose: Compose takes the file, the programs their flags, and what is mounted is there and good.
func TestCompose(t *testing.T) {
	dir, err := filepath.Abs("../../deploy/compose")
	if err != nil {
		t.Fatal(err)
	}
	project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir: dir, ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "compose.yaml")}},
		Environment: types.Mapping{"VERSION": "1.2.3", "TOKEN": "prj1_x"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, ours := range map[string]string{"relay": "relay-server", "agent": "relay-agent"} {
		service := project.Services[name]
		if service.Image != "localhost/"+ours+":1.2.3" || !service.ReadOnly || !slices.Equal(service.CapDrop, []string{"ALL"}) {
			t.Errorf("%s: image %s, read only %v, without %v", name, service.Image, service.ReadOnly, service.CapDrop)
		}
		checkArgs(t, ours, service.Command)
		health := service.HealthCheck.Test
		if health[0] != "CMD" || health[1] != ours {
			t.Fatalf("%s: the health check is %q", name, health)
		}
		checkArgs(t, ours, health[2:])
	}
	for _, service := range project.Services {
		for _, volume := range service.Volumes {
			if volume.Type == "bind" {
				if _, err := os.Stat(volume.Source); err != nil {
					t.Error(err)
				}
			}
		}
	}
	checkConfig(t, "relay-agent", read(t, filepath.Join(dir, "agent.yml")))

	promtool := installed(t, "promtool", "prometheus")
	config := filepath.Join(t.TempDir(), "prometheus.yml")
	if err := os.WriteFile(config, []byte(strings.ReplaceAll(read(t, filepath.Join(dir, "prometheus.yml")), "rules/", "../../deploy/prometheus/")), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), promtool, "check", "config", "--syntax-only", config)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// TestCloudInit: the example is what cloud-init reads, and its commands are those of the programs.
func TestCloudInit(t *testing.T) {
	text := read(t, "../../deploy/cloud-init/relay-agent.yaml")
	if !strings.HasPrefix(text, "#cloud-config\n") {
		t.Error("cloud-init knows its configuration by the first line")
	}
	var config struct {
		WriteFiles []struct{ Path, Permissions, Content string } `yaml:"write_files"`
		Packages   []string
		RunCmd     [][]string `yaml:"runcmd"`
	}
	decoder := yaml.NewDecoder(strings.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&config); err != nil {
		t.Fatal(err)
	}
	written := map[string]string{}
	for _, f := range config.WriteFiles {
		written[f.Path] = f.Content
	}
	checkConfig(t, "relay-agent", written["/etc/relay-agent/agent.yml"])
	enrolled := false
	for _, command := range config.RunCmd {
		if command[0] != "sh" {
			continue
		}
		if out, err := exec.CommandContext(t.Context(), "sh", "-n", "-c", command[2]).CombinedOutput(); err != nil {
			t.Errorf("%s: %s", command[2], out)
		}
		args := strings.Fields(command[2])
		if args[0] == "relay-agent" {
			enrolled = true
			checkArgs(t, "relay-agent", args[1:])
		}
		for _, file := range regexp.MustCompile(`token-file=(\S+)`).FindAllStringSubmatch(command[2], -1) {
			if written[file[1]] == "" {
				t.Errorf("nothing writes %s", file[1])
			}
		}
	}
	if !enrolled {
		t.Error("the machine becomes no agent")
	}
}

// installed returns the path of a program. In CI it has to be there.
func installed(t *testing.T, name, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed (%s)", name, debianPackage)
		}
		t.Skipf("%s is not installed (%s)", name, debianPackage)
	}
	return path
}
