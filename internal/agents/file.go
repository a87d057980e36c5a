package agents

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"pushrelay/internal/target"
)

// fileVersion is the version of the file's format. Raise it when an older relay would misread a newer file.
const fileVersion = 1

// knownFile is the file of known agents.
type knownFile struct {
	Version int          `json:"version"`
	Agents  []knownAgent `json:"agents"`
}

type knownAgent struct {
	Agent               string          `json:"agent"`
	LastSeen            time.Time       `json:"last_seen"`
	SessionStarted      time.Time       `json:"session_started"`
	Version             string          `json:"version"`
	RemoteAddress       string          `json:"remote_address"`
	CertificateNotAfter time.Time       `json:"certificate_not_after"`
	Targets             []target.Target `json:"targets"`
	// AnnouncedBy is the process that announced the targets, and Left are those that it or another announces no more.
	AnnouncedBy string       `json:"announced_by,omitempty"`
	Left        []leftTarget `json:"left,omitempty"`
}

type leftTarget struct {
	target.Target
	ListedUntil time.Time `json:"listed_until"`
}

// load reads the file of known agents. A missing file, or no file at all, is empty.
func load(file string) ([]*agent, error) {
	if file == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the known agents: %w", err)
	}
	var known knownFile
	if err := json.Unmarshal(raw, &known); err != nil {
		return nil, fmt.Errorf("reading the known agents from %s: %w; move the file away to start without them, connected agents announce themselves again", file, err)
	}
	if known.Version != fileVersion {
		return nil, fmt.Errorf("reading the known agents: %s has format version %d, this relay reads version %d", file, known.Version, fileVersion)
	}
	out := make([]*agent, 0, len(known.Agents))
	for _, k := range known.Agents {
		a := &agent{Agent: Agent{
			Name: k.Agent, LastSeen: k.LastSeen, SessionStarted: k.SessionStarted, Version: k.Version,
			RemoteAddress: k.RemoteAddress, CertificateNotAfter: k.CertificateNotAfter,
		}}
		a.restoreTargets(k)
		out = append(out, a)
	}
	return out, nil
}

// restoreTargets takes the targets of an agent from the file.
func (a *agent) restoreTargets(k knownAgent) {
	var process [16]byte
	if id, err := hex.DecodeString(k.AnnouncedBy); err == nil {
		copy(process[:], id)
	}
	a.setTargets(process, target.Set{Targets: k.Targets}, time.Time{})
	a.AnnouncedBy = process
	for _, left := range k.Left {
		if a.targets[left.Name] == nil {
			a.targets[left.Name] = &Target{Target: left.Target, ListedUntil: left.ListedUntil}
			a.order = append(a.order, left.Name)
		}
	}
}

// setTargets writes the targets of an agent for the file.
func (k *knownAgent) setTargets(a Agent) {
	if a.AnnouncedBy != [16]byte{} {
		k.AnnouncedBy = hex.EncodeToString(a.AnnouncedBy[:])
	}
	for _, t := range a.Targets {
		if t.ListedUntil.IsZero() {
			k.Targets = append(k.Targets, t.Target)
		} else {
			k.Left = append(k.Left, leftTarget{t.Target, t.ListedUntil})
		}
	}
}

// save writes the file of known agents if anything in it changed, so that a crash at any moment leaves the old file or
// the new one. Only Run calls it.
func (r *Registry) save() error {
	if r.cfg.File == "" {
		return nil
	}
	known := knownFile{Version: fileVersion, Agents: []knownAgent{}}
	for _, a := range r.Agents() {
		k := knownAgent{
			Agent: a.Name, LastSeen: a.LastSeen, SessionStarted: a.SessionStarted, Version: a.Version,
			RemoteAddress: a.RemoteAddress, CertificateNotAfter: a.CertificateNotAfter, Targets: []target.Target{},
		}
		k.setTargets(a)
		known.Agents = append(known.Agents, k)
	}
	raw, err := json.Marshal(known)
	if err != nil {
		return fmt.Errorf("encoding the known agents: %w", err)
	}
	if bytes.Equal(raw, r.saved) {
		return nil
	}
	if err := replaceFile(r.cfg.File, raw); err != nil {
		return err
	}
	r.saved = raw
	return nil
}

// replaceFile writes a new file beside the old one and renames it over it, each step on disk before the next.
func replaceFile(file string, content []byte) error {
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return fmt.Errorf("replacing %s: %w", file, err)
	}
	defer dir.Close() //nolint:errcheck // Opened for its Sync only.
	temporary := file + ".tmp"
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("replacing %s: %w", file, err)
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(temporary, file)
	}
	if err == nil {
		err = dir.Sync()
	}
	if err != nil {
		return fmt.Errorf("replacing %s: %w", file, err)
	}
	return nil
}
