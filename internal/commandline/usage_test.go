package commandline_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/alecthomas/kingpin/v2"
	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/commandline"
)

// help returns what a program says for --help behind the arguments.
func help(t *testing.T, args ...string) string {
	t.Helper()
	t.Setenv("COLUMNS", "80")
	app := kingpin.New("tool", "Does things.")
	app.Flag("log.level", "How much.").Default("info").String()
	app.Command("serve", "Run.\n\nExample: tool serve").Default().Flag("fast", "Faster.").String()
	group := app.Command("group", "Of commands.\n\nExit codes: 0 done.")
	group.Flag("output", "For whom.").Default("text").String()
	group.Command("secret", "Not shown.").Hidden()
	group.Command("forget", "Forget one. It comes back.\n\nMore.").Arg("name", "Which.").String()
	list := group.Command("list", "List them: those that are there, and those that were there before and are not there any more.\n\n"+
		"Example: tool group list x --match=this-is-a-selector-that-is-longer-than-a-line-of-a-terminal\nExample: tool group list y\n\nMore.")
	list.Arg("name", "Which one.").Required().String()
	list.Flag("match", "What.").Required().PlaceHolder("SELECTOR").String()
	var out bytes.Buffer
	commandline.SetUsage(app)
	app.UsageWriter(&out).Terminate(func(int) {})
	app.Parse(args) // What comes after the help is not of interest.
	return out.String()
}

func TestHelpOfACommand(t *testing.T) {
	const want = `usage: tool group list --match=SELECTOR <name>

List them: those that are there, and those that were there before and are not
there any more.

Example: tool group list x --match=this-is-a-selector-that-is-longer-than-a-line-of-a-terminal
Example: tool group list y

More.

Flags:
  --[no-]help         Show context-sensitive help (also try --help-long and
                      --help-man).
  --log.level="info"  How much.
  --output="text"     For whom.
  --match=SELECTOR    What.

Args:
  <name>  Which one.

`
	for _, args := range []string{"group list --help", "--log.level=debug group --output=x list --help", "help group list"} {
		if diff := cmp.Diff(want, help(t, strings.Fields(args)...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", args, diff)
		}
	}
}

func TestHelpOfAGroup(t *testing.T) {
	got := help(t, "group", "--help")
	const want = `
Subcommands, each with --help of its own:
  forget  Forget one.
  list    List them: those that are there, and those that were there before and
          are not there any more.

`
	if !strings.HasPrefix(got, "usage: tool group [<flags>] <command> [<args> ...]\n\nOf commands.\n\nExit codes: 0 done.\n\nFlags:\n") || !strings.HasSuffix(got, want) {
		t.Errorf("the help of a group is\n%s", got)
	}
}

// TestHelpOfAll: without a command it is about each, with the flags of what happens then.
func TestHelpOfAll(t *testing.T) {
	for _, args := range []string{"--help", "--log.level=debug --help", "help"} {
		got := help(t, strings.Fields(args)...)
		for _, want := range []string{
			"usage: tool [<flags>] <command> [<args> ...]\n\nDoes things.\n", "  How much.\n", "  serve [<flags>]\n    Run.\n\n    Example: tool serve\n\n    --fast=FAST  Faster.\n",
			"  group list --match=SELECTOR <name>\n    List them: ", "    Example: tool group list x --match=this-is-a-selector-that-is-longer-than-a-line-of-a-terminal\n",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: it does not have\n%s", args, want)
			}
		}
		if strings.Contains(got, "Not shown") || strings.Contains(got, "  group [<flags>]") {
			t.Errorf("%s: it has what is hidden, or a command that does nothing", args)
		}
		if t.Failed() {
			t.Log(got)
		}
	}
}
