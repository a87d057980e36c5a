package relay

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"pushrelay/internal/commandline"
	"pushrelay/internal/httpserver"
	"pushrelay/internal/mtls"
	"pushrelay/internal/policy"
	"pushrelay/internal/pushrules"
	"pushrelay/internal/yamldoc"
)

// CheckFile reads a file as the relay would, and says in one line which of its files it is and what is in it. Which it is say its sections, or that it
// is of PEM or DER; one that has none of that is a configuration file, since it alone may be empty.
func CheckFile(file string) (string, error) {
	text, err := yamldoc.Read(file, max(pushrules.MaxBytes, policy.MaxBytes))
	if err != nil {
		return "", fmt.Errorf("reading the file: %w", err)
	}
	keys := yamldoc.Keys(text)
	ofRules := slices.Contains(keys, pushrules.Key)
	ofPolicy := slices.Contains(keys, policy.AgentsKey) || slices.Contains(keys, policy.UsersKey)
	ofWeb := httpserver.IsConfig(keys)
	switch {
	case ofRules && ofPolicy, ofPolicy && ofWeb, ofWeb && ofRules:
		return "", fmt.Errorf("%s has sections of several files: %s belongs into that of --config.file, %s and %s into that of --policy.file, %s into that of --web.config.file",
			file, pushrules.Key, policy.AgentsKey, policy.UsersKey, webSections())
	case ofPolicy:
		return checkPolicy(file, text)
	case ofWeb:
		return checkWeb(file)
	case !ofRules && holdsLists(text):
		return checkLists(file)
	}
	rules, err := pushrules.Parse(file, text)
	if err != nil && len(keys) > 0 && !ofRules {
		err = fmt.Errorf("%w; a file for --policy.file has %s or %s, one for --web.config.file %s", err, policy.AgentsKey, policy.UsersKey, webSections())
	}
	return "for --config.file: " + commandline.Count(len(rules), "push rule"), err
}

func webSections() string { return strings.Join(httpserver.ConfigKeys(), ", ") }

func checkPolicy(file string, text []byte) (string, error) {
	p, err := policy.Parse(file, text)
	if err != nil {
		return "", err
	}
	agents, users := p.Rules()
	return fmt.Sprintf("for --policy.file: %s, %s", rulesText(agents, policy.AgentsKey), rulesText(users, policy.UsersKey)), nil
}

// rulesText says how many rules a section has, and what it means that there is none.
func rulesText(n int, section string) string {
	switch n {
	case -1:
		return "no section " + section + ", which forbids them nothing"
	case 0:
		return "no rules for " + section + ", which allows them nothing"
	default:
		return commandline.Count(n, "rule") + " for " + section
	}
}

func checkWeb(file string) (string, error) {
	found, err := httpserver.CheckConfig(file)
	if err != nil {
		return "", fmt.Errorf("web configuration %s: %w", file, err)
	}
	return "for --web.config.file: " + found.String(), nil
}

// holdsLists reports whether a text is one of certificates or lists of them, and none of YAML.
func holdsLists(text []byte) bool {
	const sequence, long = 0x30, 0x80 // what DER of some length begins with
	return bytes.Contains(text, []byte("-----BEGIN ")) || len(text) > 1 && text[0] == sequence && text[1] >= long
}

func checkLists(file string) (string, error) {
	found, err := mtls.ReadRevocationLists(file)
	if err != nil {
		return "", err
	}
	until := "which do not say when the next ones come"
	if !found.NextUpdate.IsZero() {
		until = "the next one due at " + found.NextUpdate.UTC().Format(time.RFC3339)
	}
	if !found.NextUpdate.IsZero() && found.NextUpdate.Before(time.Now()) {
		until = "OUT OF DATE since " + found.NextUpdate.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("for --grpc.tls.crl-file: %s of %s, %s; whether an authority of the agents signed them is seen at the relay's start",
		commandline.Count(found.Lists, "list"), commandline.Count(found.Certificates, "revoked certificate"), until), nil
}
