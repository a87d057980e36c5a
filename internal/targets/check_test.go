package targets_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/authority"
	"pushrelay/internal/targets"
)

// put writes files into the directory of a configuration.
func put(t *testing.T, config string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(filepath.Dir(config), name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

const fromFiles = `
scrape_configs:
  - job_name: j
    static_configs: [{targets: ["static:1"]}]
    file_sd_configs: [{files: ["targets/*.yml"]}]
`

// What is missing may come later, and is told.
func TestCheckWarns(t *testing.T) {
	for name, tt := range map[string]struct {
		text  string
		files map[string]string
		want  []string // in the warnings, one each
	}{
		"all is there":        {fromFiles, map[string]string{"targets/a.yml": "- targets: [\"x:1\"]\n"}, nil},
		"nothing in it":       {"# nothing\n", nil, []string{"there is nothing in it"}},
		"no match":            {fromFiles, map[string]string{"targets/a.json": "[]"}, []string{`job "j": file_sd_configs: no file matches`}},
		"no directory":        {fromFiles, nil, []string{"its directory does not exist"}},
		"empty target file":   {fromFiles, map[string]string{"targets/a.yml": "# later\n"}, []string{"a.yml: there is nothing in it"}},
		"empty list":          {fromFiles, map[string]string{"targets/a.yml": "[]\n"}, nil},
		"text files":          {"textfile_configs: [{directory: none, job: j}]\n", nil, []string{"textfile_configs: directory"}},
		"text files, there":   {"textfile_configs: [{directory: targets, job: j}]\n", map[string]string{"targets/a.prom": "a 1\n"}, nil},
		"password":            {"scrape_configs: [{job_name: j, basic_auth: {username: u, password_file: none}}]\n", nil, []string{`job "j": password_file cannot be read`}},
		"password, there":     {"scrape_configs: [{job_name: j, basic_auth: {username: u, password_file: p}}]\n", map[string]string{"p": "x"}, nil},
		"credentials":         {"scrape_configs: [{job_name: j, authorization: {credentials_file: none}}]\n", nil, []string{"credentials_file cannot be read"}},
		"bearer token":        {"scrape_configs: [{job_name: j, bearer_token_file: none}]\n", nil, []string{"credentials_file cannot be read"}},
		"client secret":       {"scrape_configs: [{job_name: j, oauth2: {client_id: c, token_url: \"http://x\", client_secret_file: none}}]\n", nil, []string{"client_secret_file cannot be read"}},
		"header":              {"scrape_configs: [{job_name: j, http_headers: {X-A: {files: [none]}}}]\n", nil, []string{"http_headers cannot be read"}},
		"several of one kind": {"textfile_configs: [{directory: a, job: j}, {directory: b, job: k}]\n", nil, []string{"directory", "directory"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := write(t, tt.text)
			put(t, file, tt.files)
			found, err := targets.Check(file)
			if err != nil || len(found.BadFiles) > 0 {
				t.Fatalf("Check() = %v, %v, want no errors", found, err)
			}
			if len(found.Warnings) != len(tt.want) {
				t.Fatalf("warnings = %q, want %d", found.Warnings, len(tt.want))
			}
			for i, want := range tt.want {
				if !strings.Contains(found.Warnings[i], want) {
					t.Errorf("warning %q, want one with %q", found.Warnings[i], want)
				}
			}
		})
	}
}

// Prometheus' library reads the CA files of targets, and says nothing of what it skips.
func TestCheckWarnsOfCAFilesReadInPart(t *testing.T) {
	ca, err := authority.Create(filepath.Join(t.TempDir(), "ca"), authority.Config{})
	if err != nil {
		t.Fatal(err)
	}
	certificate := string(ca.CACertPEM())
	for name, tt := range map[string]struct{ text, want string }{
		"whole":           {certificate + certificate, ""},
		"byte order mark": {certificate + "\uFEFF" + certificate, "a byte order mark"},
		"glued":           {certificate + strings.TrimSpace(certificate) + certificate, "a line feed is missing"},
		"cut off":         {certificate + certificate[:100], "BEGIN CERTIFICATE without an END"},
	} {
		file := write(t, "scrape_configs: [{job_name: j, scheme: https, tls_config: {ca_file: ca.crt}}]\n")
		put(t, file, map[string]string{"ca.crt": tt.text})
		found, err := targets.Check(file)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all := strings.Join(found.Warnings, "\n")
		if tt.want == "" && all != "" || !strings.Contains(all, tt.want) {
			t.Errorf("%s: warnings = %q, want one with %q", name, found.Warnings, tt.want)
		}
	}
}

func TestCheckRefusesTargetFiles(t *testing.T) {
	for name, tt := range map[string]struct {
		files map[string]string
		want  string
	}{
		"second document":       {map[string]string{"targets/a.yml": "- targets: [\"x:1\"]\n---\n- targets: [\"y:1\"]\n"}, "a.yml: reading targets: line 2: a second document"},
		"less indent":           {map[string]string{"targets/a.yml": "  - targets: [\"x:1\"]\n- targets: [\"y:1\"]\n"}, "a.yml: reading targets: line 2: what begins here"},
		"the agent's label":     {map[string]string{"targets/a.yml": "- {targets: [\"x:1\"], labels: {agent: y}}\n"}, `a.yml: target "x:1": label "agent" is reserved`},
		"twice in one file":     {map[string]string{"targets/a.yml": "- targets: [\"x:1\", \"x:1\"]\n"}, `target "x:1" comes twice`},
		"in two files":          {map[string]string{"targets/a.yml": "- targets: [\"x:1\"]\n", "targets/b.yml": "- targets: [\"x:1\"]\n"}, `target "x:1" comes twice`},
		"in the configuration":  {map[string]string{"targets/a.yml": "- targets: [\"static:1\"]\n"}, `target "static:1" comes twice`},
		"no list but a mapping": {map[string]string{"targets/a.yml": "targets: [\"x:1\"]\n"}, "a.yml: reading targets: line 1"},
	} {
		t.Run(name, func(t *testing.T) {
			file := write(t, fromFiles)
			put(t, file, tt.files)
			found, err := targets.Check(file)
			if err != nil || len(found.BadFiles) != 1 || !strings.Contains(found.BadFiles[0], tt.want) {
				t.Errorf("Check() = %+v, %v, want one bad file with %q", found, err, tt.want)
			}
		})
	}
}
