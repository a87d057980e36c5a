package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"

	"pushrelay/internal/relayapi"
)

// Groups are those of the relay that runs on a data dir, as commands see them.
type Groups struct{ client *relayapi.Client }

// GroupsOf returns the groups of the relay that runs on a data dir. Whether one does is seen when they are asked for.
func GroupsOf(dataDir string) (*Groups, error) {
	if dataDir == "" {
		return nil, errors.New("--data.dir is empty: a relay that keeps nothing has no control socket, and is asked at --relay.address")
	}
	if err := (Agents{DataDir: dataDir}).check(); err != nil {
		return nil, err
	}
	client, err := relayapi.NewLocal(dataDir)
	if err != nil {
		return nil, err
	}
	return &Groups{client}, nil
}

// Listens says whether a relay runs on a data dir that this process may ask.
func Listens(ctx context.Context, dataDir string) bool {
	if dataDir == "" {
		return false
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dataDir, relayapi.ControlSocket))
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// Groups returns a page of the groups that the query means.
func (g *Groups) Groups(ctx context.Context, query url.Values) (relayapi.Page, error) {
	page, err := g.client.Groups(ctx, query)
	return page, needingRelay(err)
}

// Delete deletes the groups that the query means, or says which it would. Also if it fails half-way, it says what was deleted.
func (g *Groups) Delete(ctx context.Context, query url.Values) (relayapi.Deletion, error) {
	done, err := g.client.Delete(ctx, query)
	return done, needingRelay(err)
}

// needingRelay says of an error that only a running relay can do it.
func needingRelay(err error) error {
	if isAbsent(err) {
		return fmt.Errorf("%w (%w): start it, or say by --relay.address where one listens on HTTP", ErrNeedsRelay, err)
	}
	return explainControl(err)
}
