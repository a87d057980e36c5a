package enrol

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	relayv1 "pushrelay/internal/gen/relay/v1"
)

// A Kind says whom tokens let in. It begins the text of each, so that people, and programs that look for secrets, know it when they see it.
type Kind string

// The kinds.
const (
	// ForAgents is of tokens that let an agent in.
	ForAgents Kind = "prj1_"
	// ForMembers is of those that let a relay into a cluster. Their CA is the one of its members.
	ForMembers Kind = "prc1_"
)

// command is what makes tokens of the kind, and use what takes them.
func (k Kind) command() (command, use string) {
	if k == ForMembers {
		return "relay-server cluster token NAME", "relay-server cluster join"
	}
	return "relay-server agents token NAME", "relay-agent enroll"
}

const (
	// maxTokenText bounds what is read as one.
	maxTokenText = 4 << 10
	// MaxAddresses bounds the relays of a token.
	MaxAddresses = 8
	// MaxAddressBytes bounds each of their addresses.
	MaxAddressBytes = 260
)

// TokenID names a token at its relay. It is no secret.
type TokenID [8]byte

// String returns the id as people see it.
func (id TokenID) String() string { return hex.EncodeToString(id[:]) }

// Secret is what a token proves itself by. It is never logged.
type Secret [32]byte

// Hash is what a relay keeps of the secret.
func (s Secret) Hash() [sha256.Size]byte { return sha256.Sum256(s[:]) }

// Format hides the secret from whatever formats it.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, "<secret>") }

// Pin is the SHA-256 of the certificate (DER) of a relay's CA.
type Pin [sha256.Size]byte

// PinOf returns the pin of a certificate.
func PinOf(der []byte) Pin { return sha256.Sum256(der) }

// String returns the pin in hexadecimal.
func (p Pin) String() string { return hex.EncodeToString(p[:]) }

// A Token lets an agent in: it says where the relay is, how to know it, and what to show there.
type Token struct {
	// Addresses are those of the relays of one authority, host:port; 1 to MaxAddresses.
	Addresses []string
	// CA is the pin of their CA.
	CA Pin
	ID TokenID
	// Secret is what the relay knows the hash of.
	Secret Secret
}

// NewToken returns a token with a new id and secret.
func NewToken(addresses []string, ca Pin) Token {
	t := Token{Addresses: addresses, CA: ca}
	rand.Read(t.ID[:])
	rand.Read(t.Secret[:])
	return t
}

// Text returns the token of an agent as one line. It is a secret.
func (t *Token) Text() string { return t.TextOf(ForAgents) }

// TextOf returns the token as one line. It is a secret.
func (t *Token) TextOf(kind Kind) string {
	raw, err := proto.Marshal(&relayv1.JoinToken{Addresses: t.Addresses, CaSha256: t.CA[:], Id: t.ID[:], Secret: t.Secret[:]})
	if err != nil {
		panic(err) // an address that is no UTF-8: CheckAddress was not asked
	}
	return string(kind) + base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(raw, checksum(raw)))
}

func checksum(raw []byte) uint32 { return crc32.Checksum(raw, crc32.MakeTable(crc32.Castagnoli)) }

// ParseToken reads what [Token.Text] returns; white space around it does not count. The error says what a person can do, and has nothing of the
// token in it.
func ParseToken(text string) (Token, error) { return ParseTokenOf(ForAgents, text) }

// ParseTokenOf is ParseToken for what [Token.TextOf] returns.
func ParseTokenOf(kind Kind, text string) (Token, error) {
	text = strings.TrimSpace(text)
	encoded, ok := strings.CutPrefix(text, string(kind))
	if text == "" {
		return Token{}, errors.New("the join token is empty")
	}
	for _, other := range []Kind{ForAgents, ForMembers} {
		if _, use := other.command(); other != kind && strings.HasPrefix(text, string(other)) {
			return Token{}, fmt.Errorf("that is a join token for something else: %s takes it", use)
		}
	}
	if command, _ := kind.command(); !ok {
		return Token{}, fmt.Errorf("that is no join token: one begins with %q, and %s makes it", kind, command)
	}
	if len(text) > maxTokenText {
		return Token{}, fmt.Errorf("that is no join token: it is longer than %d characters", maxTokenText)
	}
	raw, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil || len(raw) <= crc32.Size {
		return Token{}, errBroken
	}
	body, sum := raw[:len(raw)-crc32.Size], binary.BigEndian.Uint32(raw[len(raw)-crc32.Size:])
	if checksum(body) != sum {
		return Token{}, errBroken
	}
	return tokenFromProto(body)
}

var errBroken = errors.New("the join token is not whole: it was cut or changed on its way here. Copy it again, all of its one line")

func tokenFromProto(raw []byte) (Token, error) {
	var m relayv1.JoinToken
	err := proto.Unmarshal(raw, &m)
	t := Token{Addresses: m.GetAddresses()}
	if err != nil || len(m.GetCaSha256()) != len(t.CA) || len(m.GetId()) != len(t.ID) || len(m.GetSecret()) != len(t.Secret) {
		return Token{}, errors.New("the join token is none that this release reads: was it made by a newer one?")
	}
	if err := CheckAddresses(t.Addresses); err != nil {
		return Token{}, fmt.Errorf("the join token: %w", err)
	}
	copy(t.CA[:], m.GetCaSha256())
	copy(t.ID[:], m.GetId())
	copy(t.Secret[:], m.GetSecret())
	return t, nil
}

// CheckAddresses returns an error unless these can be the addresses of a token.
func CheckAddresses(addresses []string) error {
	if len(addresses) == 0 || len(addresses) > MaxAddresses {
		return fmt.Errorf("%d relay addresses, want 1 to %d", len(addresses), MaxAddresses)
	}
	for _, address := range addresses {
		host, port, err := net.SplitHostPort(address)
		if err != nil || host == "" || port == "" || len(address) > MaxAddressBytes || !utf8.ValidString(address) || strings.ContainsAny(address, "/?#@\\ \t\r\n") {
			return fmt.Errorf("relay address %.80q is not host:port", address)
		}
	}
	return nil
}
