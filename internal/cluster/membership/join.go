package membership

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"pushrelay/internal/datadir"
	"pushrelay/internal/enrol"
	"pushrelay/internal/fileowner"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/mtls"
)

const (
	joiningKey   = "member.key"
	authorityDir = "authority"
)

// A Joining is how a relay becomes a member.
type Joining struct {
	// DataDir must be empty, or have what a join has left that was cut short.
	DataDir string
	// Token lets it in. Or else PeerCADir does, which has the authority of members, as tls.crt and tls.key: whoever has its key needs no token.
	Token     string
	PeerCADir string
	// Name and Members, the links of those that are asked, are for PeerCADir; a token has them.
	Name    string
	Members []string
	// OrInitAs is the name of whom begins a cluster of that authority if none of Members has answered as a member for InitAfter, with what its data dir
	// holds, which then need not be empty; nobody if it is empty.
	OrInitAs  string
	InitAfter time.Duration
	Addresses

	// Listen is as in [Founding].
	Listen  string
	Witness bool
	Release string
	// Progress is told why it takes longer; nil for nobody.
	Progress func(words string)
}

// Join makes a data dir that of a new member: a learner at its first start, and one that counts once it has caught up. It waits for as long as ctx lives
// while the cluster lets nobody in. It may be asked again with the same token, also after it ended in the midst of it.
func Join(ctx context.Context, j Joining) (*Dir, error) {
	if err := j.join(ctx); err != nil {
		return nil, fmt.Errorf("joining the cluster: %w", err)
	}
	return Open(j.DataDir, j.Release)
}

func (j *Joining) join(ctx context.Context) error {
	by, err := j.right()
	if err == nil {
		err = j.check()
	}
	if err != nil {
		return err
	}
	if err := j.checkEmpty(); err != nil {
		if !j.mayInit() {
			return err
		}
		return j.initUnlessAnswered(ctx, by, err)
	}
	key, err := j.key()
	if err != nil {
		return err
	}
	answer, err := j.ask(ctx, by, key)
	if errors.Is(err, errNobody) {
		return j.init()
	}
	if err != nil {
		return err
	}
	return j.write(answer, key, by.pin)
}

// mayInit says that this one begins the cluster if there is none.
func (j *Joining) mayInit() bool { return j.OrInitAs != "" && j.OrInitAs == j.Name }

// initUnlessAnswered begins a cluster with what the data dir holds, which keeps it from joining one.
func (j *Joining) initUnlessAnswered(ctx context.Context, by *right, notEmpty error) error {
	err := j.askUntil(ctx, by, nil, func(context.Context, relayv1.MembershipServiceClient) error { return nil })
	switch {
	case errors.Is(err, errNobody):
		return j.init()
	case err == nil:
		return fmt.Errorf("there is a cluster already, of which a member answers, and %w", notEmpty)
	default:
		return err
	}
}

// init makes the data dir that of the first member.
func (j *Joining) init() error {
	if err := os.RemoveAll(filepath.Join(j.DataDir, joiningDir)); err != nil {
		return err
	}
	_, err := Found(Founding{DataDir: j.DataDir, Name: j.Name, Addresses: j.Addresses, Listen: j.Listen, PeerCADir: j.PeerCADir, Release: j.Release})
	return err
}

func (j *Joining) check() error {
	if j.DataDir == "" {
		return errors.New("--data.dir is empty: a relay that keeps nothing can be no member")
	}
	if err := j.Addresses.check(); err != nil {
		return err
	}
	var err error
	j.Listen, err = listenAddress(j.Listen, j.Peer)
	return err
}

// checkEmpty refuses a data dir with something in it: the content of a relay would be lost.
func (j *Joining) checkEmpty() error {
	if err := fileowner.CheckLinks(j.DataDir); err != nil {
		return err
	}
	entries, err := os.ReadDir(j.DataDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ours := []string{"lost+found", joiningDir, newDir}
	if _, err := os.Stat(filepath.Join(j.DataDir, joiningDir)); err == nil {
		ours = append(ours, authorityDir) // written last but one
	}
	for _, entry := range entries {
		if !slices.Contains(ours, entry.Name()) {
			return fmt.Errorf("--data.dir %s is not empty, it has %q: a relay joins with nothing, and gets what the cluster holds. Give it another one, or move what is there away", j.DataDir, entry.Name())
		}
	}
	return nil
}

// key returns the key of the certificate: the same until the join is done, so that an answer which was lost costs no token.
func (j *Joining) key() (crypto.Signer, error) {
	dir := filepath.Join(j.DataDir, joiningDir)
	file := filepath.Join(dir, joiningKey)
	text, err := fileowner.ReadFile(file)
	if err == nil {
		return mtls.ParsePrivateKey(text)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := datadir.MakeDir(dir); err != nil {
		return nil, err
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	if text, err = mtls.EncodePrivateKey(key); err != nil {
		return nil, err
	}
	return key, datadir.ReplaceFile(file, text)
}

// write writes what a member begins with. The cluster dir comes last and at once, so that before it there is no member.
func (j *Joining) write(answer *relayv1.JoinClusterResponse, key crypto.Signer, pin enrol.Pin) error {
	m := Member{
		Head: datadir.Head{Version: fileVersion, Release: j.Release}, Cluster: answer.GetCluster(), Name: answer.GetName(), Addresses: j.Addresses, Listen: j.Listen,
		Members: map[string]string{}, Links: map[string]string{}, Joined: "join", Witness: j.Witness, EtcdPrefix: answer.GetEtcdPrefix(),
	}
	for _, member := range answer.GetMembers() {
		m.Members[member.GetName()] = member.GetPeerAddress()
		if member.GetLinkAddress() != "" {
			m.Links[member.GetName()] = member.GetLinkAddress()
		}
	}
	files, err := j.files(answer, key, pin)
	if err != nil {
		return fmt.Errorf("what the member answered cannot be used: %w", err)
	}
	if err := j.writeAuthority(answer); err != nil {
		return err
	}
	if err := makeDir(j.DataDir, m, files); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(j.DataDir, joiningDir))
}

// files checks what was answered, and returns the files of the cluster dir.
func (j *Joining) files(answer *relayv1.JoinClusterResponse, key crypto.Signer, pin enrol.Pin) (map[string][]byte, error) {
	cert, err := x509.ParseCertificate(answer.GetCertificate())
	if err != nil {
		return nil, err
	}
	ca, err := x509.ParseCertificate(answer.GetPeerCa())
	if err != nil {
		return nil, err
	}
	a := &authority{cert: ca}
	if a.pin() != pin {
		return nil, errors.New("its authority is not the one that is known")
	}
	id, err := a.verify(cert, answer.GetCluster(), x509.ExtKeyUsageAny)
	if err != nil {
		return nil, err
	}
	if id.Name != answer.GetName() {
		return nil, fmt.Errorf("the certificate is of %q, and the member is %q", id.Name, answer.GetName())
	}
	pair, err := encodePair(answer.GetCertificate(), key)
	if err != nil {
		return nil, err
	}
	if _, err := tls.X509KeyPair(pair, pair); err != nil {
		return nil, err
	}
	files := map[string][]byte{caFile: mtls.EncodeCertificates(answer.GetPeerCa()), pairFile: pair}
	if j.Witness {
		return files, nil
	}
	caKey, err := x509.ParsePKCS8PrivateKey(answer.GetPeerCaKey())
	signer, ok := caKey.(crypto.Signer)
	if err != nil || !ok {
		return nil, errors.New("the key of the authority of members is missing")
	}
	files[caKeyFile], err = mtls.EncodePrivateKey(signer)
	return files, err
}

// writeAuthority writes the relays' own authority for agents, if they have one.
func (j *Joining) writeAuthority(answer *relayv1.JoinClusterResponse) error {
	if len(answer.GetAuthorityKey()) == 0 {
		return nil
	}
	dir := filepath.Join(j.DataDir, authorityDir)
	if err := datadir.MakeDir(dir); err != nil {
		return err
	}
	if err := datadir.ReplaceFile(filepath.Join(dir, "ca.key"), answer.GetAuthorityKey()); err != nil {
		return err
	}
	return datadir.ReplaceFile(filepath.Join(dir, "ca.crt"), answer.GetAuthorityCertificate())
}
