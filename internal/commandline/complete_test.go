package commandline_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/commandline"
)

func shells() *commandline.Shells {
	app := kingpin.New("tool", "Does things - \"well\".")
	app.Flag("log.level", "How much.").Default("info").String()
	serve := app.Command("serve", "Run.").Default()
	serve.Flag("color", "In color.").Default("true").Bool()
	serve.Flag("secret", "Not shown.").Hidden().Bool()
	app.Command("hidden", "Not shown.").Hidden()
	group := app.Command("group", "Of commands.")
	group.Flag("output", "For whom.").Default("text").String()
	list := group.Command("list", ".starts with a dot, and 'quotes' \\n.\n\nExample: tool group list \\\n    --match='{a=\"b\"}'\n\nMore…")
	list.Arg("name", "Which.").Required().String()
	list.Flag("match", "What.").Short('m').PlaceHolder("SELECTOR").String()
	return &commandline.Shells{App: app.Model(), Values: map[string][]string{"output": {"text", "json"}}}
}

func answer(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	if !shells().Answer(args, "1.2", &out) {
		t.Fatalf("Answer(%q) = false", args)
	}
	return out.String()
}

func TestCompletions(t *testing.T) {
	for _, tt := range []struct {
		line string // its last word is completed; a trailing blank makes that an empty one
		bash string
		zsh  string // the same as bash if it is empty
	}{
		{line: "", bash: "serve group"},
		{line: "g", bash: "group"},
		{line: "hid", bash: ""},
		{line: "group ", bash: "list"},
		{line: "group list ", bash: ""},
		{line: "group list x --m", bash: "--match"},
		{line: "group list x --o", bash: "--output"},
		{line: "--c", bash: "--color"},
		{line: "--no", bash: "--no-color"},
		{line: "serve --secr", bash: ""},
		{line: "group --output ", bash: "text json"},
		{line: "group --output j", bash: "json"},
		{line: "group --output=j", bash: "--output=json"},
		{line: "group --output = j", bash: "json", zsh: "-"},
		{line: "group --output =", bash: "text json", zsh: "-"},
		{line: "group --output = json l", bash: "list", zsh: "-"},
		{line: "group --output json --log.level debug l", bash: "list"},
		{line: "group --log.level=debug l", bash: "list"},
		{line: "group --log.level = a : b l", bash: "list", zsh: "-"},
		{line: "--unknown group l", bash: "list"},
		{line: "-h gr", bash: "group"},
		{line: "group -- l", bash: ""},
	} {
		words := strings.Split(tt.line, " ")
		for flag, want := range map[string]string{"--completion-bash": tt.bash, "--completion-zsh": tt.zsh} {
			if want == "-" {
				continue
			}
			if want == "" {
				want = tt.bash
			}
			if got := strings.Join(strings.Fields(answer(t, append([]string{flag}, words...)...)), " "); got != want {
				t.Errorf("%s %q = %q, want %q", flag, tt.line, got, want)
			}
		}
	}
	if got := answer(t, "--completion-bash"); got != "" {
		t.Errorf("without a word: %q", got)
	}
	if shells().Answer([]string{"group", "--help-man"}, "", &bytes.Buffer{}) || shells().Answer(nil, "", &bytes.Buffer{}) {
		t.Error("another command line is answered")
	}
}

// TestManPage: what is special in roff is not, and what is typed stays so.
func TestManPage(t *testing.T) {
	page := answer(t, "--help-man")
	for _, want := range []string{
		".TH \"TOOL\" 1 \"\" \"tool 1.2\" \"\"\n",
		".SH NAME\ntool \\- Does things \\- \"well\"\n",
		".B \"\\-\\-log.level=\\(dqinfo\\(dq\"\nHow much.\n",
		".SS \"group <command>\"\nOf commands.\n",
		".SS \"group list <name>\"\n\\&.starts with a dot, and \\(aqquotes\\(aq \\(rsn.\n",
		"Example:\n.PP\n.nf\n.RS 4\ntool group list \\(rs\n    \\-\\-match=\\(aq{a=\"b\"}\\(aq\n.RE\n.fi\n.PP\nMore\\[u2026]\n",
		".TP\n.B \"\\-m, \\-\\-match=SELECTOR\"\nWhat.\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not have\n%s", want)
		}
	}
	if strings.Contains(page, "Not shown") {
		t.Error("what is hidden is in the page")
	}
	if t.Failed() {
		t.Log(page)
	}
}

func TestMarkdown(t *testing.T) {
	page := answer(t, "--help-markdown")
	for _, want := range []string{
		"# tool\n\nDoes things - \"well\".\n",
		"| `--log.level=\"info\"` | How much. |\n",
		"## serve\n\n`tool serve`\n\nRun.\n\n| flag | |\n|---|---|\n| `--[no-]color` | In color. |\n",
		"## group\n\n`tool group <command>`\n",
		"## group list\n\n`tool group list <name>`\n",
		"```sh\ntool group list \\\n    --match='{a=\"b\"}'\n```\n\nMore…\n",
		"| `-m, --match=SELECTOR` | What. |\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not have\n%s", want)
		}
	}
	if strings.Contains(page, "Not shown") {
		t.Error("what is hidden is in the page")
	}
	if t.Failed() {
		t.Log(page)
	}
}
