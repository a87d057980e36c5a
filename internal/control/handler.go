package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"pushrelay/internal/httpserver"
	"pushrelay/internal/ledger"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/roster"
)

// maxBodyBytes bounds the body of a request: a certificate is the largest.
const maxBodyBytes = 64 << 10

// Handler returns the routes. They are for the control socket alone.
func (c *Control) Handler() http.Handler {
	mux := http.NewServeMux()
	const one = relayapi.ControlAgents + "/{agent}"
	mux.HandleFunc("GET "+relayapi.ControlAgents, answering(func(*http.Request, *relayapi.Nothing) ([]relayapi.Agent, error) {
		return c.Agents(), nil
	}))
	mux.HandleFunc("GET "+one, answering(func(r *http.Request, _ *relayapi.Nothing) (relayapi.Agent, error) {
		return c.Agent(r.PathValue("agent"))
	}))
	mux.HandleFunc("DELETE "+one, answering(func(r *http.Request, _ *relayapi.Nothing) (relayapi.Nothing, error) {
		return relayapi.Nothing{}, c.Forget(r.PathValue("agent"))
	}))
	mux.HandleFunc("POST "+one+"/revoke", answering(func(r *http.Request, body *relayapi.Revoke) (relayapi.Revoked, error) {
		return c.Revoke(httpserver.Outlasting(r.Context()), r.PathValue("agent"), *body)
	}))
	mux.HandleFunc("POST "+one+"/allow", answering(func(r *http.Request, _ *relayapi.Nothing) (relayapi.Allowed, error) {
		return c.Allow(r.PathValue("agent"))
	}))
	mux.HandleFunc("POST "+relayapi.ControlCertificates, answering(func(_ *http.Request, body *relayapi.NewCertificate) (relayapi.Noted, error) {
		return c.Note([]byte(body.Certificate), ledger.ByCommand)
	}))
	mux.HandleFunc("GET "+relayapi.ControlTokens, answering(func(*http.Request, *relayapi.Nothing) ([]relayapi.Token, error) {
		return TokensIn(c.cfg.Ledger.State), nil
	}))
	mux.HandleFunc("POST "+relayapi.ControlTokens, answering(func(_ *http.Request, body *relayapi.NewToken) (relayapi.MadeToken, error) {
		return c.MakeToken(*body)
	}))
	mux.HandleFunc("DELETE "+relayapi.ControlTokens+"/{token}", answering(func(r *http.Request, _ *relayapi.Nothing) (relayapi.Token, error) {
		return c.VoidToken(r.PathValue("token"))
	}))
	mux.HandleFunc("GET "+relayapi.ControlTokens+"/{token}/agents", answering(func(r *http.Request, _ *relayapi.Nothing) ([]relayapi.Agent, error) {
		return c.AgentsBy(r.PathValue("token")), nil
	}))
	mux.HandleFunc("POST "+relayapi.ControlExplain, answering(func(_ *http.Request, body *relayapi.Explain) (relayapi.Explained, error) {
		return c.cfg.Explain(*body)
	}))
	return mux
}

// answering returns the handler of a route that takes and returns JSON. An empty body is that of a request with all defaults.
func answering[In, Out any](do func(*http.Request, *In) (Out, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in In
		if err := readBody(w, r, &in); err != nil {
			write(w, http.StatusBadRequest, relayapi.Answer[Out]{Status: "error", ErrorType: "bad_data", Error: err.Error()})
			return
		}
		out, err := do(r, &in)
		if err != nil {
			status, kind := statusOf(err)
			write(w, status, relayapi.Answer[Out]{Status: "error", Data: &out, ErrorType: kind, Error: err.Error()})
			return
		}
		write(w, http.StatusOK, relayapi.Answer[Out]{Status: "success", Data: &out})
	}
}

// readBody refuses what it does not know: a mistyped option that is passed over would do something else than was asked for.
func readBody(w http.ResponseWriter, r *http.Request, into any) error {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	if err != nil {
		return fmt.Errorf("reading the request: %w", err)
	}
	if len(raw) == 0 {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("reading the request: %w", err)
	}
	return nil
}

// statusOf returns the status of an answer and its word.
func statusOf(err error) (status int, kind string) {
	_, bad := errors.AsType[*requestError](err)
	_, revoked := errors.AsType[*ledger.RevokedError](err)
	_, taken := errors.AsType[*roster.TakenError](err)
	_, groupsLeft := errors.AsType[*groupsLeftError](err)
	_, state := errors.AsType[*stateError](err)
	_, unwritten := errors.AsType[*ledger.WriteError](err)
	_, alone := errors.AsType[*ledger.NoMajorityError](err)
	failure, failed := errors.AsType[*relayapi.Failure](err)
	switch {
	case failed:
		return statusOfKind[failure.Kind], string(failure.Kind)
	case bad:
		return http.StatusBadRequest, "bad_data"
	case errors.Is(err, roster.ErrUnknown), errors.Is(err, errNoToken):
		return http.StatusNotFound, "not_found"
	case revoked, taken, state, errors.Is(err, roster.ErrConnected), errors.Is(err, ledger.ErrNotRevoked), errors.Is(err, ledger.ErrIssued):
		return http.StatusConflict, "conflict"
	case groupsLeft, unwritten, alone:
		return http.StatusServiceUnavailable, "unavailable"
	default:
		return http.StatusInternalServerError, "internal"
	}
}

var statusOfKind = map[relayapi.FailureKind]int{
	relayapi.BadRequest: http.StatusBadRequest, relayapi.NotFound: http.StatusNotFound, relayapi.Conflict: http.StatusConflict, relayapi.Unavailable: http.StatusServiceUnavailable,
}

func write(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(answer) //nolint:errcheck,errchkjson // Whoever does not read the answer asks again.
}
