package httpserver

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"net/http"
	"os"
	"sync"

	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/bcrypt"
)

// A Peer is who sent a request, as far as that was proved. The zero value is nobody.
type Peer struct {
	// User is the user of the web configuration file whose password came with the request; empty for none.
	User string
	// Certificate are the names in the client certificate, if there is one that was verified: its URIs, DNS names, email addresses and its
	// common name, in this order.
	Certificate []string
}

// Peer returns who sent a request to one of the listeners.
//
// The password is compared here once more: the handler that checks passwords reads the file anew for each request, and lets everybody pass with
// any name while it has no users. What is compared is remembered, so that it costs a hash and no more.
func (s *Server) Peer(r *http.Request) Peer {
	var peer Peer
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		peer.Certificate = namesOf(r.TLS.VerifiedChains[0][0])
	}
	if name, password, has := r.BasicAuth(); has && s.users.isRight(*s.cfg.Flags.WebConfigFile, name, password) {
		peer.User = name
	}
	return peer
}

func namesOf(cert *x509.Certificate) []string {
	var names []string
	for _, uri := range cert.URIs {
		names = append(names, uri.String())
	}
	names = append(names, cert.DNSNames...)
	names = append(names, cert.EmailAddresses...)
	if name := cert.Subject.CommonName; name != "" {
		names = append(names, name)
	}
	return names
}

// users are the users of the web configuration file, as it is now. The zero value is ready.
type users struct {
	mu     sync.Mutex
	text   []byte            // guarded by mu; the file as it was read last
	hashes map[string]string // guarded by mu; of passwords, by user, in that text
	right  map[[32]byte]bool // guarded by mu; what was compared and right, by user, hash and password
}

// isRight says whether that is the password of the user in the file.
func (u *users) isRight(file, name, password string) bool {
	hash, has := u.hashOf(file, name)
	if !has || name == "" {
		return false
	}
	id := sha256.Sum256([]byte(name + "\xff" + hash + "\xff" + password))
	u.mu.Lock()
	known := u.right[id]
	u.mu.Unlock()
	if known {
		return true
	}
	if bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) != nil {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.right == nil || len(u.right) >= maxRight {
		u.right = map[[32]byte]bool{}
	}
	u.right[id] = true
	return true
}

// hashOf returns the hash of a user's password. A file that cannot be read has no users.
func (u *users) hashOf(file, name string) (hash string, has bool) {
	if file == "" {
		return "", false
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.hashes == nil || !bytes.Equal(text, u.text) {
		var config struct {
			Users map[string]string `yaml:"basic_auth_users"`
		}
		if yaml.Unmarshal(text, &config) != nil {
			return "", false
		}
		u.text, u.hashes = text, config.Users
		if u.hashes == nil {
			u.hashes = map[string]string{}
		}
	}
	hash, has = u.hashes[name]
	return hash, has
}
