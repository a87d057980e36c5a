package commandline_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/commandline"
)

// program is one with a command that happens without being named, and two others.
func program() *kingpin.Application {
	app := kingpin.New("program", "")
	app.Flag("data.dir", "").String()
	serve := app.Command("serve", "").Default()
	serve.Flag("web.listen-address", "").Strings()
	serve.Flag("web.enable-admin-api", "").Bool()
	serve.Flag("push.timeout", "").Duration()
	serve.Flag("secret", "").Hidden().String()
	app.Command("status", "").Flag("json", "").Bool()
	issue := app.Command("agent-certificate", "")
	issue.Arg("name", "").Required().String()
	issue.Flag("out", "").String()
	agents := app.Command("agents", "")
	agents.Flag("output", "").String()
	revoke := agents.Command("revoke", "")
	revoke.Arg("name", "").Required().String()
	revoke.Flag("serial", "").String()
	agents.Command("list", "")
	agents.Command("secret", "").Hidden()
	return app
}

func TestAdvise(t *testing.T) {
	for args, want := range map[string]string{
		"stauts":                                "did you mean status?",
		"agent-certifcate x":                    "did you mean agent-certificate?",
		"certificate":                           "the commands are help, serve, status, agent-certificate, agents",
		"nonsense":                              "the commands are help, serve, status, agent-certificate, agents",
		"--data.dir=x stat":                     "did you mean status?",
		"--data.dir x statsu":                   "did you mean status?",
		"--web.listenaddress=:1":                "did you mean --web.listen-address?",
		"--web.listen_address :1":               "did you mean --web.listen-address?",
		"--listen-address=:1":                   "did you mean --web.listen-address?",
		"--web.enable-admin-api --push.timout":  "did you mean --push.timeout?",
		"--no-web.enable-admin-api --push.time": "did you mean --push.timeout?",
		"status --jsno":                         "did you mean --json?",
		"status --datadir=x":                    "did you mean --data.dir?",
		"agent-certificate statsu --ouut=x":     "did you mean --out?",
		"--secre=x":                             "", // hidden
		"--storage.path=x":                      "",
		"status --web.listen-address=:1":        "", // not its own
		"agent-certificate":                     "", // its name is missing
		"agent-certificate x -- --ouut":         "",
		"--push.timeout=soon":                   "",
		"agents":                                "must select a subcommand of 'agents': the commands are revoke, list",
		"agents --output=json":                  "the commands are revoke, list",
		"agents revok x":                        "did you mean revoke?",
		"--data.dir x agents revok x":           "did you mean revoke?",
		"agents --output json lits":             "did you mean list?",
		"agents nonsense x":                     "the commands are revoke, list",
		"agents secre":                          "the commands are revoke, list",
		"agents revoke x --seriel=1":            "did you mean --serial?",
		"agents revoke x --outptu=json":         "did you mean --output?",
		"agents revoke --serial=1":              "", // its name is missing
		"agents list --serial=1":                "", // not its own
		"agents list lits":                      "", // no argument
	} {
		app := program()
		_, err := app.Parse(strings.Fields(args))
		if err == nil {
			t.Errorf("%s is parsed", args)
			continue
		}
		got := commandline.Advise(app.Model(), strings.Fields(args), err)
		if !errors.Is(got, err) || want == "" && got != err || !strings.HasSuffix(got.Error(), want) { //nolint:errorlint // It is to be the same one.
			t.Errorf("%s: %q, want %q behind %q", args, got, want, err)
		}
	}
}
