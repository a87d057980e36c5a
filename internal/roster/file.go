package roster

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"slices"
	"time"

	"pushrelay/internal/datadir"
	"pushrelay/internal/mtls"
	"pushrelay/internal/target"
)

// fileVersion is the version of the file's format. Raise it when an older relay would misread a newer file.
const fileVersion = 1

// damagedSuffix is added to the name under which a damaged file is kept for people.
const damagedSuffix = ".damaged"

// knownFile is the file of known agents.
type knownFile struct {
	datadir.Head
	Agents []knownAgent `json:"agents"`
	// Checksum is that of all before it, and comes last. Files of early releases have none.
	Checksum string `json:"checksum,omitempty"`
}

type knownAgent struct {
	Agent               string        `json:"agent"`
	LastSeen            time.Time     `json:"last_seen"`
	SessionStarted      time.Time     `json:"session_started"`
	Version             string        `json:"version"`
	RemoteAddress       string        `json:"remote_address"`
	CertificateNotAfter time.Time     `json:"certificate_not_after"`
	CertificateSerial   string        `json:"certificate_serial,omitempty"`
	TrustDomain         string        `json:"trust_domain,omitempty"`
	Targets             []knownTarget `json:"targets"`
	// AnnouncedBy is the process that announced the targets, and Left are those that it or another announces no more.
	AnnouncedBy string       `json:"announced_by,omitempty"`
	Left        []leftTarget `json:"left,omitempty"`
}

type knownTarget struct {
	target.Target
	// See Target.
	InstanceSince uint64 `json:"instance_since,omitempty"`
	AddressSince  uint64 `json:"address_since,omitempty"`
}

type leftTarget struct {
	knownTarget
	ListedUntil time.Time `json:"listed_until"`
}

// load reads the file of known agents; a missing file, or no file at all, is empty. One that is damaged is no reason to stop:
// it is kept under another name, and damaged says what is wrong with it. What it said comes again with the agents.
func load(file string) (known []*listedAgent, damaged, err error) {
	if file == "" {
		return nil, nil, nil
	}
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading the known agents: %w", err)
	}
	read, damaged := decode(raw)
	if newer := read.CheckKnown(file, fileVersion); newer != nil {
		return nil, nil, newer
	}
	if damaged != nil {
		// The file itself stays until another one takes its place: whoever starts again before that must see that something is lost.
		if err := datadir.ReplaceFile(file+damagedSuffix, raw); err != nil {
			return nil, nil, fmt.Errorf("setting the damaged file of known agents aside: %w", err)
		}
		return nil, damaged, nil
	}
	return read.agents(), nil, nil
}

// agents returns what the file says of each agent.
func (k *knownFile) agents() (known []*listedAgent) {
	for _, k := range k.Agents {
		a := newAgent(Agent{
			Name: k.Agent, LastSeen: k.LastSeen, SessionStarted: k.SessionStarted, Version: k.Version,
			RemoteAddress: k.RemoteAddress, CertificateNotAfter: k.CertificateNotAfter, CertificateSerial: k.CertificateSerial, TrustDomain: k.TrustDomain,
		})
		a.restoreTargets(k)
		known = append(known, a)
	}
	return known
}

// Read returns what a file of known agents says, sorted by name, and changes nothing. A missing file says nothing.
func Read(file string) ([]Agent, error) {
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the known agents: %w", err)
	}
	read, err := decode(raw)
	if newer := read.CheckKnown(file, fileVersion); newer != nil {
		err = newer
	}
	if err != nil {
		return nil, fmt.Errorf("reading the known agents: %w", err)
	}
	now := time.Now()
	out := make([]Agent, 0, len(read.Agents))
	for _, a := range read.agents() {
		out = append(out, a.listed(now))
	}
	slices.SortFunc(out, func(x, y Agent) int { return cmp.Compare(x.Name, y.Name) })
	return out, nil
}

// decode reads a file. What was read is returned beside the damage: the version says whether it is damage at all.
func decode(raw []byte) (knownFile, error) {
	var read knownFile
	if err := json.Unmarshal(raw, &read); err != nil {
		return knownFile{Head: datadir.ReadHead(raw)}, err
	}
	return read, read.check(raw)
}

func (k *knownFile) check(raw []byte) error {
	if k.Version != fileVersion {
		return fmt.Errorf("it has format version %d", k.Version)
	}
	if k.Checksum != "" {
		if content, ok := bytes.CutSuffix(raw, checksumOf(k.Checksum)); !ok || checksum(content) != k.Checksum {
			return errors.New("its checksum is wrong")
		}
	}
	seen := map[string]bool{}
	for _, a := range k.Agents {
		err := mtls.CheckAgentName(a.Agent)
		if err == nil && seen[a.Agent] {
			err = errors.New("it is there twice")
		}
		if err != nil {
			return fmt.Errorf("agent %q: %w", a.Agent, err)
		}
		seen[a.Agent] = true
	}
	return nil
}

// encode returns the content of the file. The checksum is that of what stands before it, and so the last field.
func (k *knownFile) encode() ([]byte, error) {
	raw, err := json.Marshal(k)
	if err != nil {
		return nil, fmt.Errorf("encoding the known agents: %w", err)
	}
	raw = raw[:len(raw)-1] // the closing brace comes after it
	return append(raw, checksumOf(checksum(raw))...), nil
}

func checksumOf(sum string) []byte { return fmt.Appendf(nil, `,"checksum":%q}`, sum) }

func checksum(raw []byte) string {
	return fmt.Sprintf("crc32c:%08x", crc32.Checksum(raw, crc32.MakeTable(crc32.Castagnoli)))
}

// restoreTargets takes the targets of an agent from the file. What an earlier relay took beyond the bounds is left out.
func (a *listedAgent) restoreTargets(k knownAgent) {
	if id, err := hex.DecodeString(k.AnnouncedBy); err == nil {
		copy(a.AnnouncedBy[:], id)
	}
	a.targets = make(map[string]*Target, len(k.Targets)+len(k.Left))
	var listed, left target.Count
	for _, t := range k.Targets {
		a.restore(&listed, t, time.Time{})
	}
	for _, t := range k.Left {
		a.restore(&left, t.knownTarget, t.ListedUntil)
	}
}

// restore takes one target, as one of those that are counted.
func (a *listedAgent) restore(count *target.Count, k knownTarget, listedUntil time.Time) {
	t := k.Target
	t.ScrapeInterval, t.ScrapeTimeout = target.ClampTimes(t.ScrapeInterval, t.ScrapeTimeout)
	if a.targets[t.Name] != nil || t.Validate() != nil || count.Add(t.Bytes(), len(t.Labels)) != nil {
		a.refused++
		return
	}
	a.targets[t.Name] = &Target{Target: t, ListedUntil: listedUntil, InstanceSince: k.InstanceSince, AddressSince: k.AddressSince}
	a.order = append(a.order, t.Name)
}

// setTargets writes the targets of an agent for the file.
func (k *knownAgent) setTargets(a Agent) {
	if a.AnnouncedBy != [16]byte{} {
		k.AnnouncedBy = hex.EncodeToString(a.AnnouncedBy[:])
	}
	for _, t := range a.Targets {
		known := knownTarget{t.Target, t.InstanceSince, t.AddressSince}
		if t.ListedUntil.IsZero() {
			k.Targets = append(k.Targets, known)
		} else {
			k.Left = append(k.Left, leftTarget{known, t.ListedUntil})
		}
	}
}

// save writes the file of known agents if anything in it changed, so that a crash at any moment leaves the old file or
// the new one. While less is known than before it stays as it is. Only Run calls it.
func (r *Registry) save() error {
	if r.cfg.File == "" || !r.mayReplace() {
		return nil
	}
	known := knownFile{Head: datadir.Head{Version: fileVersion, Release: r.cfg.Release}, Agents: []knownAgent{}}
	for _, a := range r.each((*listedAgent).whole) { // terms may be others at the next start
		k := knownAgent{
			Agent: a.Name, LastSeen: a.LastSeen, SessionStarted: a.SessionStarted, Version: a.Version,
			RemoteAddress: a.RemoteAddress, CertificateNotAfter: a.CertificateNotAfter, CertificateSerial: a.CertificateSerial,
			TrustDomain: a.TrustDomain, Targets: []knownTarget{},
		}
		k.setTargets(a)
		known.Agents = append(known.Agents, k)
	}
	raw, err := known.encode()
	if err != nil {
		return err
	}
	if bytes.Equal(raw, r.saved) {
		return nil
	}
	if err := datadir.ReplaceFile(r.cfg.File, raw); err != nil {
		return err
	}
	r.saved = raw
	return nil
}
