package membership

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"

	"pushrelay/internal/datadir"
	"pushrelay/internal/enrol"
	"pushrelay/internal/mtls"
)

// MaxMembers bounds a cluster: each more makes each push wait for more of them. Three or five are what is good for something (C18).
const MaxMembers = 7

// A Founding is what the first member of a cluster is to be.
type Founding struct {
	DataDir string
	Name    string
	Addresses

	// Listen is where its etcd is heard; empty for the port of its peer address, on all addresses.
	Listen string
	// PeerCADir has the authority of members, as tls.crt and tls.key; empty for one that is made.
	PeerCADir string
	Release   string

	ca *authority // that of PeerCADir, set by check
}

// Found makes a data dir that of the first member of a new cluster, which holds what the relay holds: at its next start, see [Import]. What is there
// otherwise is left alone.
func Found(f Founding) (*Dir, error) {
	if err := f.check(); err != nil {
		return nil, fmt.Errorf("beginning a cluster: %w", err)
	}
	if d, err := Open(f.DataDir, f.Release); d != nil || err != nil {
		if err == nil {
			err = fmt.Errorf("this is member %q of a cluster already", d.Member().Name)
		}
		return nil, fmt.Errorf("beginning a cluster: %w", err)
	}
	if err := datadir.MakeDir(f.DataDir); err != nil {
		return nil, fmt.Errorf("beginning a cluster: %w", err)
	}
	m := Member{
		Head: datadir.Head{Version: fileVersion, Release: f.Release}, Cluster: newID(), Name: f.Name, Addresses: f.Addresses, Listen: f.Listen,
		Members: map[string]string{f.Name: f.Peer}, Joined: "init", Pending: Import,
	}
	files, err := begin(m, f.ca)
	if err == nil {
		err = makeDir(f.DataDir, m, files)
	}
	if err != nil {
		return nil, fmt.Errorf("beginning a cluster: %w", err)
	}
	return Open(f.DataDir, f.Release)
}

// begin returns the files of a member that begins a cluster: a CA, which is made if none is given, and the first certificate of it.
func begin(m Member, ca *authority) (files map[string][]byte, err error) {
	if ca == nil {
		if ca, err = newAuthority(m.Cluster); err != nil {
			return nil, err
		}
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	der, err := ca.sign(mtls.MemberID{Cluster: m.Cluster, Name: m.Name}, m.Peer, key.Public())
	if err != nil {
		return nil, err
	}
	caKey, err := mtls.EncodePrivateKey(ca.key)
	if err != nil {
		return nil, err
	}
	pair, err := encodePair(der, key)
	return map[string][]byte{caFile: mtls.EncodeCertificates(ca.cert.Raw), caKeyFile: caKey, pairFile: pair}, err
}

func newID() string {
	var id [16]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

// check completes and checks what was given.
func (f *Founding) check() error {
	if f.DataDir == "" {
		return errors.New("--data.dir is empty: a relay that keeps nothing can be no member")
	}
	if err := mtls.CheckMemberName(f.Name); err != nil {
		return err
	}
	if err := f.Addresses.check(); err != nil {
		return err
	}
	var err error
	if f.PeerCADir != "" {
		if f.ca, err = readPeerCA(f.PeerCADir); err != nil {
			return err
		}
	}
	f.Listen, err = listenAddress(f.Listen, f.Peer)
	return err
}

// check returns an error unless others can dial these.
func (a *Addresses) check() error {
	for _, address := range []struct{ what, text string }{{"peer", a.Peer}, {"link", a.Link}, {"web", a.Web}} {
		if err := enrol.CheckAddresses([]string{address.text}); err != nil {
			return fmt.Errorf("the %s address %q is not HOST:PORT as other members dial it", address.what, address.text)
		}
		if host, _, err := net.SplitHostPort(address.text); err == nil && strings.Contains(host, ",") || err == nil && net.ParseIP(host).IsUnspecified() {
			return fmt.Errorf("the %s address %q is none that other members can dial: give the host's name or address", address.what, address.text)
		}
	}
	return nil
}

// listenAddress returns where an etcd is heard that is dialled at an address.
func listenAddress(listen, peer string) (string, error) {
	_, port, err := net.SplitHostPort(peer)
	if listen == "" {
		return net.JoinHostPort("0.0.0.0", port), err
	}
	if host, _, err := net.SplitHostPort(listen); err != nil || host != "" && net.ParseIP(host) == nil {
		return "", fmt.Errorf("the listen address %q is not ADDRESS:PORT, with an address of this host or none", listen)
	}
	return listen, nil
}

// ForceBegin makes a stopped member the only one of a new cluster, with what its etcd holds: with a new id, and a new authority of members, so that those
// of the lost cluster never speak with it. At the next start, see [ForceNew].
func (d *Dir) ForceBegin() (lost []string, err error) {
	m := d.Member()
	if m.Witness {
		return nil, fmt.Errorf("beginning a new cluster: member %q is a witness, and has nothing to go on with: take a relay", m.Name)
	}
	if !m.HasOwnEtcd() {
		return nil, fmt.Errorf("beginning a new cluster: the etcd of member %q runs by itself, and one relay is enough with it: bring etcd back, and start the relay", m.Name)
	}
	if m.Pending != Nothing && m.Pending != ForceNew {
		return nil, fmt.Errorf("beginning a new cluster: member %q has not done yet what is pending, %q: start it once", m.Name, m.Pending)
	}
	for name := range m.Members {
		if name != m.Name {
			lost = append(lost, name)
		}
	}
	m.Cluster, m.Store, m.Joined, m.Pending, m.Release = newID(), "", "force-new", ForceNew, d.release
	m.Members, m.Links = map[string]string{m.Name: m.Peer}, nil
	if err := writeJSON(d.file(memberFile), m); err != nil {
		return nil, fmt.Errorf("beginning a new cluster: %w", err)
	}
	d.mu.Lock()
	d.member = m
	d.mu.Unlock()
	if err := d.reissue(); err != nil {
		return nil, fmt.Errorf("beginning a new cluster: %w", err)
	}
	return lost, nil
}

// reissue gives a member that begins a new cluster its authority, unless it has it. What was cut short is done again before the next start.
func (d *Dir) reissue() error {
	m := d.Member()
	if pair, err := readPair(d.file(pairFile)); err == nil && d.ca != nil {
		if id, err := d.ca.verify(pair.Leaf, m.Cluster, x509.ExtKeyUsageServerAuth); err == nil && id.Name == m.Name {
			return nil
		}
	}
	files, err := begin(m, nil)
	if err != nil {
		return err
	}
	for _, name := range []string{caKeyFile, caFile, pairFile} {
		if err := datadir.ReplaceFile(d.file(name), files[name]); err != nil {
			return err
		}
	}
	d.ca, err = readAuthority(d.file(caFile), d.file(caKeyFile))
	return err
}
