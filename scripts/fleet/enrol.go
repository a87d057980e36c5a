package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"pushrelay/internal/enrol"
	"pushrelay/internal/enrol/enrolclient"
	"pushrelay/internal/identity"
	"pushrelay/internal/mtls"
)

// enrollers is how many agents come in at once, as an image that is started everywhere.
const enrollers = 64

// enroll lets all agents in by one token for names with a prefix, and returns their files. What an agent keeps is written without care: a real one has a
// disk of its own.
func enroll(ctx context.Context, r *relay, count int) ([]mtls.Files, error) {
	text, err := r.token(ctx, count)
	if err != nil {
		return nil, err
	}
	token, err := enrol.ParseToken(text)
	if err != nil {
		return nil, err
	}
	client := enrolclient.New(enrolclient.Config{})
	enrolled := make([]mtls.Files, count)
	agents, ctx := errgroup.WithContext(ctx)
	agents.SetLimit(enrollers)
	for i := range count {
		agents.Go(func() (err error) {
			enrolled[i], err = enrollOne(ctx, client, &token, r.dir, agentName(i))
			return err
		})
	}
	return enrolled, agents.Wait()
}

// enrollOne asks until there is an answer, as an agent does.
func enrollOne(ctx context.Context, client *enrolclient.Client, token *enrol.Token, dir, name string) (mtls.Files, error) {
	key, err := identity.NewKey()
	if err != nil {
		return mtls.Files{}, err
	}
	request, err := identity.Request(key)
	if err != nil {
		return mtls.Files{}, err
	}
	for {
		issued, err := client.Enroll(ctx, token, enrolclient.Names{Otherwise: name}, request)
		if failed, ok := errors.AsType[*enrolclient.Error](err); ok && failed.Later {
			if err := pause(ctx, 200*time.Millisecond); err != nil {
				return mtls.Files{}, err
			}
			continue
		}
		if err != nil {
			return mtls.Files{}, err
		}
		keyPEM, err := mtls.EncodePrivateKey(key)
		if err != nil {
			return mtls.Files{}, err
		}
		pair, ca := filepath.Join(dir, name+".pem"), filepath.Join(dir, "ca.crt")
		return mtls.Files{CertFile: pair, KeyFile: pair, CAFile: ca}, errors.Join(
			os.WriteFile(pair, append(keyPEM, mtls.EncodeCertificates(issued.GetChain()...)...), 0o600),
			os.WriteFile(ca, mtls.EncodeCertificates(issued.GetAuthorities()[0]), 0o600))
	}
}

// renew has agents renew their certificates over their sessions, so many a second, until ctx ends. It returns how many did.
func (f *fleet) renew(ctx context.Context, perSecond int) (renewed int, err error) {
	next := time.NewTicker(time.Second / time.Duration(perSecond))
	defer next.Stop()
	for ; ; renewed++ {
		select {
		case <-ctx.Done():
			return renewed, nil
		case <-next.C:
		}
		key, err := identity.NewKey()
		if err != nil {
			return renewed, err
		}
		request, err := identity.Request(key)
		if err != nil {
			return renewed, err
		}
		if _, err := f.links[renewed%len(f.links)].Renew(context.WithoutCancel(ctx), request); err != nil {
			return renewed, fmt.Errorf("renewing: %w", err)
		}
	}
}
