package membership

import "pushrelay/internal/relayapi"

func badRequest(err error) error  { return &relayapi.Failure{Kind: relayapi.BadRequest, Err: err} }
func notFound(err error) error    { return &relayapi.Failure{Kind: relayapi.NotFound, Err: err} }
func conflict(err error) error    { return &relayapi.Failure{Kind: relayapi.Conflict, Err: err} }
func unavailable(err error) error { return &relayapi.Failure{Kind: relayapi.Unavailable, Err: err} }
