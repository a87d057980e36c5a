package enrolclient

import (
	"context"
	"errors"

	"pushrelay/internal/enrol"
	"pushrelay/internal/identity"
)

// A Join is an enrolment: a token that is exchanged for an identity. It may be tried any number of times, also after the agent has ended in the midst of it.
type Join struct {
	Client *Client
	// Store takes the identity.
	Store identity.Store
	Token *enrol.Token
	Names
	// Release is the agent's, for the files.
	Release string
}

// Attempt asks the relays of the token once, and writes what they issued. The error is an [*Error] if they issued nothing.
func (j *Join) Attempt(ctx context.Context) (*identity.Identity, error) {
	key, err := j.Store.PendingKey(j.Token.ID)
	if err != nil {
		return nil, err
	}
	request, err := identity.Request(key)
	if err != nil {
		return nil, err
	}
	issued, err := j.Client.Enroll(ctx, j.Token, j.Names, request)
	if err != nil {
		return nil, j.failed(err)
	}
	checked, err := identity.CheckFirst(issued, key, j.Name, j.Token.CA)
	if err != nil {
		return nil, err
	}
	id, err := j.Store.Put(checked, j.Token.Addresses, j.Release)
	if err != nil {
		return nil, err
	}
	return id, j.Store.DropPending(j.Token.ID)
}

// failed removes the key of a token that was refused for good.
func (j *Join) failed(err error) error {
	if refused, ok := errors.AsType[*Error](err); ok && refused.Final() {
		return errors.Join(err, j.Store.DropPending(j.Token.ID))
	}
	return err
}
