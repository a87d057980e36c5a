package agents

import (
	"bytes"
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
		a.setTargets(k.Targets)
		out = append(out, a)
	}
	return out, nil
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
		for _, t := range a.Targets {
			k.Targets = append(k.Targets, t.Target)
		}
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
