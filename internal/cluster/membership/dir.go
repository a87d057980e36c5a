package membership

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"pushrelay/internal/cluster/engine"
	"pushrelay/internal/datadir"
	"pushrelay/internal/fileowner"
)

// What lies in a data dir of a member.
const (
	clusterDir  = "cluster"
	joiningDir  = "cluster.joining" // what a join keeps until it is done
	newDir      = "cluster.new"     // a cluster dir that is being made, and is nothing yet
	memberFile  = "member.json"
	markFile    = "mark.json"
	caFile      = "peer-ca.crt"
	caKeyFile   = "peer-ca.key"
	pairFile    = "member.pem" // certificate and key, which change by one rename
	engineDir   = "etcd"
	fileVersion = 1
)

// Pending is what is to be done at the next start, before the relay is what it will be. Whoever has done it says so, see [Dir.Done].
type Pending string

// What can be pending.
const (
	Nothing Pending = ""
	// Import says that the store on the disk is to be written into the cluster's etcd, of which this is the only member. It is begun again if it was not
	// done: see [Dir.BeginImport].
	Import Pending = "import"
	// Leave says that what the member's etcd holds is to become a store on the disk again, with an id of its own.
	Leave Pending = "leave"
	// ForceNew says that the etcd is to begin a new cluster with what it holds, of this member alone, and the store is to get a new id.
	ForceNew Pending = "force-new"
)

// Addresses are where a member is dialled by others, host:port.
type Addresses struct {
	// Peer is that of its etcd.
	Peer string `json:"peer_address"`
	// Link is that of its port for agents, where its link is as well.
	Link string `json:"link_address"`
	// Web is where its metrics are scraped.
	Web string `json:"web_address"`
}

// A Member is what a data dir says of being one.
type Member struct {
	datadir.Head

	// Cluster is the id of the cluster, in hexadecimal.
	Cluster string `json:"cluster"`
	// Store is the id of the store, as far as it is known here.
	Store string `json:"store,omitempty"`
	Name  string `json:"name"`
	Addresses

	// Listen is where its etcd is heard.
	Listen string `json:"listen_address"`
	// Members are the addresses of the etcds of all members when this one began, by name.
	Members map[string]string `json:"members"`
	// Links are those of their ports for agents.
	Links map[string]string `json:"links,omitempty"`
	// Joined says how it became one: init, join or force-new.
	Joined string `json:"joined"`
	// Witness says that it is an etcd member and nothing else.
	Witness bool    `json:"witness,omitempty"`
	Pending Pending `json:"pending,omitempty"`
	// EtcdPrefix is what the cluster's keys begin with in an etcd that runs by itself. It is empty if etcd runs within the members.
	EtcdPrefix string `json:"etcd_prefix,omitempty"`
}

// HasOwnEtcd says that the member's etcd runs within it.
func (m *Member) HasOwnEtcd() bool { return m.EtcdPrefix == "" }

// Dir is the data dir of a member. It is safe for concurrent use.
type Dir struct {
	// Static after Open, but for ca, which ForceBegin and Prepare may replace.
	dataDir, path, release string
	incarnation            Incarnation
	ca                     *authority

	mu     sync.Mutex
	member Member // guarded by mu; as it is on the disk

	marking sync.Mutex // held while data dir and cluster are compared, and get another mark: others are asked meanwhile
	mark    *mark      // guarded by marking; as it is on the disk, nil before the first start
}

// Open returns what a data dir knows of being a member: nil for one that is none. It is an error if it is one and something of that is missing, so that
// it does not start alone. Release is that of the program. Nothing is changed.
func Open(dataDir, release string) (*Dir, error) {
	path := filepath.Join(dataDir, clusterDir)
	if dataDir == "" {
		return nil, nil
	}
	if err := fileowner.CheckLinks(path); err != nil {
		return nil, err
	}
	if there, err := datadir.DirExists(path); err != nil || !there {
		return nil, err
	}
	d := &Dir{dataDir: dataDir, path: path, release: release}
	rand.Read(d.incarnation[:])
	if err := d.read(); err != nil {
		return nil, fmt.Errorf("%s is, or was, the data dir of a member of a cluster, and cannot be used as one: %w. Put the file back, or remove the member on another one"+
			" (relay-server cluster remove), empty the data dir, and let it join again; relay-server never begins alone on it by itself", dataDir, err)
	}
	return d, nil
}

func (d *Dir) read() error {
	text, err := fileowner.ReadFile(d.file(memberFile))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &d.member); err != nil || d.member.Version == 0 {
		if newer := datadir.ReadHead(text).CheckKnown(d.file(memberFile), fileVersion); newer != nil {
			return newer
		}
		return fmt.Errorf("%s is not whole", d.file(memberFile))
	}
	if err := d.member.CheckKnown(d.file(memberFile), fileVersion); err != nil {
		return err
	}
	if d.ca, err = readAuthority(d.file(caFile), d.file(caKeyFile)); err != nil && d.member.Pending != ForceNew { // see ForceBegin
		return err
	}
	d.mark, err = readMark(d.file(markFile))
	return err
}

// Incarnation returns what the relay is that begins with this value: another one that is opened is another.
func (d *Dir) Incarnation() Incarnation { return d.incarnation }

func (d *Dir) file(name string) string { return filepath.Join(d.path, name) }

// Member returns what is known.
func (d *Dir) Member() Member {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.member
}

// change changes what the data dir says.
func (d *Dir) change(f func(m *Member)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.member
	f(&m)
	m.Release = d.release
	if err := writeJSON(d.file(memberFile), m); err != nil {
		return err
	}
	d.member = m
	return nil
}

// Prefix returns what all keys of the cluster begin with.
func (d *Dir) Prefix() string {
	m := d.Member()
	return cmp.Or(m.EtcdPrefix, DefaultPrefix)
}

func (d *Dir) keys() keys { return keys{d.Prefix()} }

func (d *Dir) hasOwnEtcd() bool {
	m := d.Member()
	return m.HasOwnEtcd()
}

// Engine returns how the member's etcd is started, if it has one of its own. Its Logger is left to the caller.
func (d *Dir) Engine() engine.Config {
	m := d.Member()
	return engine.Config{
		Dir: d.file(engineDir), Name: m.Name, Listen: m.Listen, Members: m.Members, Join: m.Joined == "join", Token: m.Cluster, ForceNew: m.Pending == ForceNew,
		TLS: engine.TLS{CertFile: d.file(pairFile), KeyFile: d.file(pairFile), CAFile: d.file(caFile)},
	}
}

// BeginImport empties the member's etcd, so that an import that was cut short leaves nothing behind.
func (d *Dir) BeginImport() error {
	if p := d.Member().Pending; p != Import {
		return fmt.Errorf("beginning the import into the cluster: what is pending is %q", p)
	}
	if err := os.RemoveAll(d.file(engineDir)); err != nil {
		return fmt.Errorf("beginning the import into the cluster: %w", err)
	}
	return datadir.SyncDir(d.path)
}

// Done says that what was pending is done. After [Leave] the data dir is no member's any more.
func (d *Dir) Done() error {
	if d.Member().Pending == Leave {
		return d.forget()
	}
	return d.change(func(m *Member) { m.Pending = Nothing })
}

// SetStore notes the id of the cluster's store.
func (d *Dir) SetStore(id string) error {
	if d.Member().Store == id {
		return nil
	}
	return d.change(func(m *Member) { m.Store = id })
}

// forget makes the data dir that of a relay which is no member. It takes the directory away by one rename first.
func (d *Dir) forget() error {
	old := filepath.Join(d.dataDir, newDir)
	err := os.RemoveAll(old)
	if err == nil {
		err = os.Rename(d.path, old)
	}
	if err == nil {
		err = datadir.SyncDir(d.dataDir)
	}
	if err = errors.Join(err, os.RemoveAll(old)); err != nil {
		return fmt.Errorf("leaving the cluster: %w", err)
	}
	return nil
}

// writeJSON replaces a file.
func writeJSON(file string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return datadir.ReplaceFile(file, append(text, '\n'))
}

// make makes the cluster dir of a data dir, whole or not at all.
func makeDir(dataDir string, m Member, files map[string][]byte) error {
	made, final := filepath.Join(dataDir, newDir), filepath.Join(dataDir, clusterDir)
	if _, err := os.Lstat(final); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is there already", final)
	}
	if err := os.RemoveAll(made); err != nil {
		return err
	}
	if err := datadir.MakeDir(made); err != nil {
		return err
	}
	for name, content := range files {
		if err := datadir.ReplaceFile(filepath.Join(made, name), content); err != nil {
			return err
		}
	}
	if err := writeJSON(filepath.Join(made, memberFile), m); err != nil {
		return err
	}
	if err := os.Rename(made, final); err != nil {
		return err
	}
	return datadir.SyncDir(dataDir)
}
