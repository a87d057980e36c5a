// Package target says what can be scraped: a target's name, address and labels, and what is valid for them.
//
// It holds values only. How to authenticate to a target is no part of it and stays with the agent.
package target

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/common/model"
)

// Bounds of what an agent may announce of one target, so that a registry of many agents stays small.
const (
	maxNameLength   = 200
	maxLabels       = 64
	maxStringLength = 1024
)

var nameRE = regexp.MustCompile(`^[a-zA-Z0-9_.:-]{1,200}$`)

// Label is one label of a target.
type Label struct{ Name, Value string }

// Target is one thing that an agent can scrape.
type Target struct {
	// Name stands for the target in the relay's URLs: unique within the agent, [a-zA-Z0-9_.:-]{1,200}.
	Name string
	// Job and Instance are the labels of these names.
	Job, Instance string
	// Address is host:port as the agent dials it.
	Address string
	// Scheme is http or https.
	Scheme string
	// MetricsPath is the path that a scrape asks for; it begins with a slash.
	MetricsPath string
	// Labels are the further labels of the configuration, sorted by name.
	Labels []Label
	// ScrapeInterval and ScrapeTimeout are what the configuration says; 0 if it says nothing.
	ScrapeInterval, ScrapeTimeout time.Duration
}

// Validate returns an error that names the target and the first thing wrong with it. The relay checks with it what agents
// announce.
func (t Target) Validate() error {
	if !nameRE.MatchString(t.Name) || t.Name == "." || t.Name == ".." { // of a URL, the two would take away what stands before them
		return fmt.Errorf("target name %.40q is . or .., or not [a-zA-Z0-9_.:-]{1,%d}", t.Name, maxNameLength)
	}
	if err := t.validate(); err != nil {
		return fmt.Errorf("target %q: %w", t.Name, err)
	}
	return nil
}

// ValidateUnnamed is Validate for a target that has no name yet, and may get the longest. Agents check their configuration
// with it.
func (t Target) ValidateUnnamed() error {
	t.Name = strings.Repeat("x", maxNameLength)
	return t.validate()
}

func (t Target) validate() error {
	if err := new(Count).Add(t.Bytes(), len(t.Labels)); err != nil {
		return err
	}
	if t.Job == "" {
		return errors.New("it has no job")
	}
	if t.Scheme != "http" && t.Scheme != "https" {
		return fmt.Errorf("scheme is %.40q, want http or https", t.Scheme)
	}
	if !strings.HasPrefix(t.MetricsPath, "/") {
		return fmt.Errorf("metrics path %.40q does not begin with a slash", t.MetricsPath)
	}
	if err := ValidateAddress(t.Address); err != nil {
		return err
	}
	for _, s := range []string{t.Job, t.Instance, t.Address, t.MetricsPath} {
		if err := validateValue(s); err != nil {
			return err
		}
	}
	if t.ScrapeInterval < 0 || t.ScrapeTimeout < 0 {
		return errors.New("scrape interval or timeout is negative")
	}
	return validateLabels(t.Labels)
}

func validateLabels(labels []Label) error {
	for i, l := range labels {
		if !model.LegacyValidation.IsValidLabelName(l.Name) || strings.HasPrefix(l.Name, model.ReservedLabelPrefix) {
			return fmt.Errorf("label name %.40q is not valid", l.Name)
		}
		if i > 0 && labels[i-1].Name >= l.Name {
			return fmt.Errorf("labels are not sorted or repeat %q", l.Name)
		}
		if err := validateValue(l.Value); err != nil {
			return fmt.Errorf("label %q: %w", l.Name, err)
		}
	}
	return nil
}

func validateValue(s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("value %.40q is not valid UTF-8", s)
	}
	if len(s) > maxStringLength {
		return fmt.Errorf("value %.40q… is longer than %d bytes", s, maxStringLength)
	}
	return nil
}

// ValidateAddress returns an error unless the address is host:port or a bare host, without scheme or path.
func ValidateAddress(address string) error {
	if address == "" {
		return errors.New("address is empty")
	}
	if strings.ContainsAny(address, "/?#@ \t\r\n") {
		return fmt.Errorf("address %q is not host:port; scheme and path have settings of their own", address)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || port == "" {
		return fmt.Errorf("address %q is not host:port", address)
	}
	// A name is one that the agent's system knows, or does not when it dials.
	if number, err := strconv.Atoi(port); err == nil && (number < 1 || number > 65535) {
		return fmt.Errorf("address %q has a port that cannot be, want 1 to 65535", address)
	}
	return nil
}

// Equal reports whether both targets say the same.
func (t Target) Equal(o Target) bool {
	labels, other := t.Labels, o.Labels
	return t.Name == o.Name && t.Job == o.Job && t.Instance == o.Instance && t.Address == o.Address &&
		t.Scheme == o.Scheme && t.MetricsPath == o.MetricsPath && slices.Equal(labels, other) &&
		t.ScrapeInterval == o.ScrapeInterval && t.ScrapeTimeout == o.ScrapeTimeout
}

// ValidateSet validates each target, that no name comes twice, and the bounds of all.
func ValidateSet(targets []Target) error {
	seen := make(map[string]struct{}, min(len(targets), MaxTargets))
	var count Count
	for _, t := range targets {
		if err := count.Add(t.Bytes(), len(t.Labels)); err != nil {
			return err
		}
		if err := t.Validate(); err != nil {
			return err
		}
		if _, twice := seen[t.Name]; twice {
			return fmt.Errorf("target name %q comes twice", t.Name)
		}
		seen[t.Name] = struct{}{}
	}
	return nil
}

// AssignNames returns a name for every target, made from its job and address: `node-localhost:9100`. Where that is no
// valid name, or several targets share it, a hash of all that tells them apart follows. A name depends on the target and
// on those it collides with, never on their order, so it is stable over restarts. Of targets that are equal in everything
// only the first gets a name, the others an empty one.
func AssignNames(targets []Target) []string {
	hashes := make([]string, len(targets))
	sharing := make(map[string]int, len(targets))
	seen := make(map[string]bool, len(targets))
	for i, t := range targets {
		hash := t.hash()
		if seen[hash] {
			continue
		}
		seen[hash] = true
		hashes[i] = hash
		sharing[baseName(t.Job, t.Address)]++
	}
	names := make([]string, len(targets))
	for i, t := range targets {
		if hashes[i] == "" {
			continue
		}
		names[i] = baseName(t.Job, t.Address)
		if sharing[names[i]] > 1 || names[i] != t.Job+"-"+t.Address {
			names[i] += "-" + hashes[i][:12]
		}
	}
	return names
}

func baseName(job, address string) string {
	name := strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_.:-", r)) {
			return r
		}
		return '_'
	}, job+"-"+address)
	return name[:min(len(name), maxNameLength-20)]
}

// hash identifies everything that tells two targets of an agent apart, the name excepted.
func (t Target) hash() string {
	h := sha256.New()
	write := func(s string) { fmt.Fprintf(h, "%d:%s", len(s), s) }
	for _, s := range []string{t.Job, t.Instance, t.Address, t.Scheme, t.MetricsPath} {
		write(s)
	}
	for _, l := range t.Labels {
		write(l.Name)
		write(l.Value)
	}
	return hex.EncodeToString(h.Sum(nil))
}
