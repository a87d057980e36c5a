package identity

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"pushrelay/internal/datadir"
	"pushrelay/internal/enrol"
	"pushrelay/internal/fileowner"
	"pushrelay/internal/mtls"
)

// The files of an identity, in a directory that has the name of its authority's pin.
const (
	pairName   = "agent.pem" // the certificate with its chain, then its key
	caName     = "ca.crt"
	relaysName = "relays.json"
)

const (
	// newPrefix begins the names of directories that are made, and not yet in place.
	newPrefix = ".new-"
	// maxFileBytes bounds what is read of a file.
	maxFileBytes = 1 << 20
	// MaxRelays bounds the addresses of an identity. One that enrols again and again keeps those that it had.
	MaxRelays = 4 * enrol.MaxAddresses
)

// A Store is the directory of identities in a data dir. It is a value; the zero value has no directory, and holds none.
type Store struct {
	dir  string
	disk disk
}

// In returns the store of a data dir; empty for one in memory.
func In(dataDir string) Store {
	if dataDir == "" {
		return Store{}
	}
	return Store{dir: filepath.Join(dataDir, "identity"), disk: osDisk{}}
}

// Dir is where the identities are.
func (s Store) Dir() string { return s.dir }

// An Identity is what an agent is to the relays of one authority, as it is on the disk.
type Identity struct {
	// Authority is the pin of the CA that the agent enrolled with. It names the identity, also after the authority has got another CA.
	Authority enrol.Pin
	// Agent is who the agent is.
	Agent mtls.PeerID
	// Certificate is the leaf. It must not be modified.
	Certificate *x509.Certificate
	// Relays are where relays of the authority are dialled.
	Relays []string

	dir  string
	cas  []*x509.Certificate
	disk disk
}

// Again returns the identity as it is on the disk now.
func (id *Identity) Again() (*Identity, error) { return load(id.disk, id.dir, id.Authority) }

// Files are those of its mutual TLS.
func (id *Identity) Files() mtls.Files {
	pair := filepath.Join(id.dir, pairName)
	return mtls.Files{CertFile: pair, KeyFile: pair, CAFile: filepath.Join(id.dir, caName)}
}

// Dir is where it is.
func (id *Identity) Dir() string { return id.dir }

// Ended says that its certificate has ended.
func (id *Identity) Ended(now time.Time) bool { return now.After(id.Certificate.NotAfter) }

// Trusts says that the CA of a pin is among those that verify its relays: a token with that pin is of its authority.
func (id *Identity) Trusts(pin enrol.Pin) bool {
	return id.Authority == pin || slices.ContainsFunc(id.cas, func(ca *x509.Certificate) bool { return enrol.PinOf(ca.Raw) == pin })
}

// Load returns the identities, ordered by their pins, and removes what a crash has left half made. Of an address that several have it is that of the
// youngest certificate: it was moved there, and its old place not yet changed. Identities of several agents are an error, since all else in a data dir
// belongs to one.
func (s Store) Load() ([]*Identity, error) {
	if s.dir == "" {
		return nil, nil
	}
	if err := s.checkLinks(); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the agent's identities: %w", err)
	}
	var found []*Identity
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
		if strings.HasPrefix(entry.Name(), newPrefix) {
			if err := s.disk.removeAll(filepath.Join(s.dir, entry.Name())); err != nil {
				return nil, fmt.Errorf("removing an identity that was never whole: %w", err)
			}
			continue
		}
		pin, isPin := parsePin(entry.Name())
		if !isPin {
			continue
		}
		id, err := load(s.disk, filepath.Join(s.dir, entry.Name()), pin)
		if err != nil {
			return nil, err
		}
		found = append(found, id)
	}
	s.dropTaken(names, found)
	settle(found)
	return found, checkNames(found)
}

// checkLinks refuses links that somebody else made, to the store and in it.
func (s Store) checkLinks() error {
	if err := datadir.CheckLinks(filepath.Dir(s.dir)); err != nil {
		return err
	}
	return datadir.CheckLinks(s.dir)
}

// settle leaves each address to one identity.
func settle(found []*Identity) {
	owner := map[string]*Identity{}
	for _, id := range found {
		for _, address := range id.Relays {
			if other := owner[address]; other == nil || other.Certificate.NotBefore.Before(id.Certificate.NotBefore) {
				owner[address] = id
			}
		}
	}
	for _, id := range found {
		id.Relays = slices.DeleteFunc(id.Relays, func(address string) bool { return owner[address] != id })
	}
}

func checkNames(found []*Identity) error {
	for _, id := range found[min(1, len(found)):] {
		if first := found[0]; id.Agent.Agent != first.Agent.Agent {
			return fmt.Errorf("two agents have their identity in one data dir, %q in %s and %q in %s: what waits for relays belongs to one. Remove one of the two directories",
				first.Agent.Agent, first.dir, id.Agent.Agent, id.dir)
		}
	}
	return nil
}

// load reads an identity.
func load(d disk, dir string, pin enrol.Pin) (*Identity, error) {
	id := &Identity{Authority: pin, dir: dir, disk: d}
	if err := id.read(); err != nil {
		return nil, fmt.Errorf("reading the agent's identity in %s: %w (if it is lost, remove the directory and enrol again)", dir, err)
	}
	return id, nil
}

func (id *Identity) read() error {
	if err := datadir.CheckLinks(id.dir); err != nil {
		return err
	}
	pair, err := readFile(filepath.Join(id.dir, pairName))
	if err != nil {
		return err
	}
	cas, err := readFile(filepath.Join(id.dir, caName))
	if err != nil {
		return err
	}
	if id.cas, err = mtls.ParseCertificates(cas); err != nil {
		return fmt.Errorf("%s: %w", caName, err)
	}
	parsed, err := mtls.ParsePair(pair, pair)
	if err != nil {
		return fmt.Errorf("%s: %w", pairName, err)
	}
	id.Certificate = parsed.Leaf
	if id.Agent, err = mtls.PeerIDFromCertificate(parsed.Leaf); err != nil {
		return fmt.Errorf("%s: %w", pairName, err)
	}
	id.Relays, err = readRelays(filepath.Join(id.dir, relaysName))
	return err
}

func readFile(path string) ([]byte, error) {
	f, err := fileowner.OpenIn(nil, path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // It was only read.
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(text) > maxFileBytes {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxFileBytes)
	}
	return text, err
}

func parsePin(name string) (pin enrol.Pin, ok bool) {
	raw, err := hex.DecodeString(name)
	if err != nil || len(raw) != len(pin) || name != strings.ToLower(name) {
		return pin, false
	}
	return enrol.Pin(raw), true
}

// Put makes the certificate, and where its relays are, the agent's identity at the authority that it was checked against; release is who writes. An identity that is there for that
// authority gets it, and keeps the addresses that it had; the addresses go from any other. The caller has judged whether that is wanted.
func (s Store) Put(c *Certificate, relays []string, release string) (*Identity, error) {
	present, err := s.Load()
	if err != nil {
		return nil, err
	}
	var id *Identity
	for _, other := range present {
		switch {
		case other.Trusts(c.authority):
			id = other
		case other.Agent.Agent != c.Agent.Agent:
			return nil, fmt.Errorf("the certificate is of agent %q, and this data dir is that of agent %q (%s): give each agent a data dir of its own", c.Agent.Agent, other.Agent.Agent, other.dir)
		}
	}
	if id == nil {
		id, err = s.create(c, relays, release)
	} else {
		err = id.replace(c, relays, release)
	}
	if err != nil {
		return nil, fmt.Errorf("writing the agent's identity: %w", err)
	}
	for _, other := range present {
		if other != id && other.Authority != id.Authority {
			if err := s.release(other, relays, release); err != nil {
				return nil, fmt.Errorf("taking the relays from the identity in %s: %w", other.dir, err)
			}
		}
	}
	return load(s.disk, id.dir, id.Authority)
}

// create makes a new identity beside its place, and renames it into it.
func (s Store) create(c *Certificate, relays []string, release string) (*Identity, error) {
	if err := s.make(); err != nil {
		return nil, err
	}
	dir, err := s.disk.makeTemp(s.dir)
	if err != nil {
		return nil, err
	}
	id := &Identity{Authority: c.authority, dir: dir, disk: s.disk}
	err = id.replace(c, relays, release)
	if err == nil {
		id.dir = filepath.Join(s.dir, c.authority.String())
		err = s.disk.rename(dir, id.dir)
	}
	if err != nil {
		s.disk.removeAll(dir) //nolint:errcheck // Or the next start does.
		return nil, err
	}
	return id, nil
}

// replace writes all files of an identity, the pair last: with the others the earlier one is as good.
func (id *Identity) replace(c *Certificate, relays []string, release string) error {
	all := slices.Clone(relays)
	for _, address := range id.Relays {
		if !slices.Contains(all, address) && len(all) < MaxRelays {
			all = append(all, address)
		}
	}
	if err := id.writeRelays(all, release); err != nil {
		return err
	}
	return id.renew(c)
}

// Renew replaces certificate and key, and the CAs if they are others, and returns the identity as it is then. A crash leaves the earlier pair or the new
// one.
func (id *Identity) Renew(c *Certificate) (*Identity, error) {
	if err := id.renew(c); err != nil {
		return nil, fmt.Errorf("writing the renewed certificate: %w", err)
	}
	return load(id.disk, id.dir, id.Authority)
}

func (id *Identity) renew(c *Certificate) error {
	file := filepath.Join(id.dir, caName)
	// The CAs come first: those of the new certificate have one of the earlier CAs among them, and the earlier pair is as good with them.
	if there, err := readFile(file); err != nil || !bytes.Equal(there, c.caPEM) {
		if err := id.disk.replace(file, c.caPEM); err != nil {
			return err
		}
	}
	return id.disk.replace(filepath.Join(id.dir, pairName), c.pairPEM)
}

// release takes addresses from an identity, which goes with its last one.
func (s Store) release(id *Identity, relays []string, release string) error {
	left := slices.DeleteFunc(slices.Clone(id.Relays), func(address string) bool { return slices.Contains(relays, address) })
	switch {
	case len(left) == len(id.Relays):
		return nil
	case len(left) > 0:
		return id.writeRelays(left, release)
	}
	gone := filepath.Join(s.dir, newPrefix+"removed-"+id.Authority.String()) // as a whole, and by Load after a crash
	if err := s.disk.removeAll(gone); err != nil {
		return err
	}
	if err := s.disk.rename(id.dir, gone); err != nil {
		return err
	}
	return s.disk.removeAll(gone)
}

// make makes the directory of identities, and the data dir if that is not there.
func (s Store) make() error {
	for _, dir := range []string{filepath.Dir(s.dir), s.dir} {
		if err := fileowner.CheckLinks(dir); err != nil {
			return err
		}
		if err := datadir.MakeDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// ByAddress returns which identity an address belongs to; nil for none.
func ByAddress(identities []*Identity, address string) *Identity {
	for _, id := range identities {
		if slices.Contains(id.Relays, address) {
			return id
		}
	}
	return nil
}

// ByAuthority returns the identity at the authority whose CA has the pin; nil for none.
func ByAuthority(identities []*Identity, pin enrol.Pin) *Identity {
	for _, id := range identities {
		if id.Trusts(pin) {
			return id
		}
	}
	return nil
}
