package membership

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/enrol"
	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/mtls"
)

// Bounds of a token.
const (
	shortestTTL, longestTTL = time.Minute, 24 * time.Hour
	// tokenMemory is how long etcd has a token after its end.
	tokenMemory = time.Hour
	// tokenWait is when whoever has no token that is good is told so, counted from when they asked: whether it is unknown, used or ended takes the same
	// time.
	tokenWait = 250 * time.Millisecond
)

// errToken is all that is told of a token that is not good.
var errToken = errors.New("the join token is unknown, used or ended: make another on a member (relay-server cluster token NAME)")

// A NewToken is what a token is to be for.
type NewToken struct {
	Name    string
	TTL     time.Duration
	Witness bool
	// Addresses are the links of members.
	Addresses []string
}

// MakeToken makes a token that lets in one member, once.
func MakeToken(ctx context.Context, client *clientv3.Client, dir *Dir, t NewToken) (text string, token enrol.Token, ends time.Time, err error) {
	if err := mtls.CheckMemberName(t.Name); err != nil {
		return "", token, ends, badRequest(err)
	}
	if t.TTL < shortestTTL || t.TTL > longestTTL {
		return "", token, ends, badRequest(fmt.Errorf("a token that is good for %s, want %s to %s", t.TTL, shortestTTL, longestTTL))
	}
	if err := enrol.CheckAddresses(t.Addresses); err != nil {
		return "", token, ends, badRequest(err)
	}
	if dir.ca.key == nil {
		return "", token, ends, conflict(errors.New("a witness makes no tokens: make it on a relay of the cluster"))
	}
	if t.Witness && !dir.hasOwnEtcd() {
		return "", token, ends, conflict(errors.New("the cluster's etcd runs by itself, and a witness would have nothing to do"))
	}
	token = enrol.NewToken(t.Addresses, dir.ca.pin())
	hash := token.Secret.Hash()
	ends = time.Now().Add(t.TTL)
	value, err := proto.Marshal(&storagev1.ClusterToken{Hash: hash[:], Name: t.Name, Witness: t.Witness, Ends: ends.Unix()})
	if err != nil {
		return "", token, ends, err
	}
	granted, err := client.Grant(ctx, int64((t.TTL+tokenMemory)/time.Second))
	if err == nil {
		_, err = client.Put(ctx, dir.keys().token(token.ID), string(value), clientv3.WithLease(granted.ID))
	}
	if err != nil {
		return "", token, ends, unavailable(fmt.Errorf("no token was made: %w", err))
	}
	return token.TextOf(enrol.ForMembers), token, ends, nil
}

// A shownToken is one that was shown with its secret.
type shownToken struct {
	*storagev1.ClusterToken

	key      string
	revision int64
}

// findToken returns the token that somebody shows, or errToken.
func findToken(ctx context.Context, client *clientv3.Client, dir *Dir, id, secret []byte) (shownToken, error) {
	var token shownToken
	if len(id) != len(enrol.TokenID{}) {
		id = make([]byte, len(enrol.TokenID{})) // it is looked up all the same, and found nowhere
	}
	token.key = dir.keys().token(enrol.TokenID(id))
	got, err := client.Get(ctx, token.key)
	if err != nil {
		return token, err
	}
	token.ClusterToken = &storagev1.ClusterToken{Hash: make([]byte, 32)}
	if len(got.Kvs) == 1 {
		token.revision = got.Kvs[0].ModRevision
		if err := proto.Unmarshal(got.Kvs[0].Value, token.ClusterToken); err != nil {
			return token, fmt.Errorf("reading a join token: %w", err)
		}
	}
	same := subtle.ConstantTimeCompare(digestOf(secret), token.GetHash()) == 1
	if !same || time.Now().Unix() >= token.GetEnds() {
		return token, errToken
	}
	return token, nil
}

// use notes for which public key (DER) the token is used, if it was not: for no other one it is from then on.
func (t *shownToken) use(ctx context.Context, client *clientv3.Client, key []byte) error {
	if len(t.GetKey()) > 0 {
		return nil
	}
	t.Key = digestOf(key)
	value, err := proto.Marshal(t.ClusterToken)
	if err != nil {
		return err
	}
	done, err := client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(t.key), "=", t.revision)).Then(clientv3.OpPut(t.key, string(value), clientv3.WithIgnoreLease())).Commit()
	if err == nil && !done.Succeeded {
		err = errToken
	}
	return err
}
