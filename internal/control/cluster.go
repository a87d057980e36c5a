package control

import (
	"context"
	"net/http"

	"pushrelay/internal/httpserver"
	"pushrelay/internal/relayapi"
)

// Cluster is what is needed of membership.Office. Errors are a [*relayapi.Failure] where who asks can do something.
type Cluster interface {
	// Found makes the relay the first member of a cluster.
	Found(ctx context.Context, n relayapi.NewCluster) (relayapi.MadeCluster, error)
	// Status says what is known of the cluster.
	Status(ctx context.Context) (relayapi.ClusterStatus, error)
	// Token makes a token that lets in a member.
	Token(ctx context.Context, t relayapi.NewMemberToken) (relayapi.MemberToken, error)
	// Remove removes another member.
	Remove(ctx context.Context, name string) (relayapi.MemberGone, error)
	// HandOver has another member lead.
	HandOver(ctx context.Context) (relayapi.HandedOver, error)
	// Leave makes the relay one of its own.
	Leave(ctx context.Context) (relayapi.MemberGone, error)
}

// ClusterHandler returns the routes of a cluster, at and below [relayapi.ControlCluster]. They are for the control socket alone.
func ClusterHandler(c Cluster) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+relayapi.ControlCluster, answering(func(r *http.Request, _ *relayapi.Nothing) (relayapi.ClusterStatus, error) {
		return c.Status(r.Context())
	}))
	mux.HandleFunc("POST "+relayapi.ControlCluster, answering(func(r *http.Request, body *relayapi.NewCluster) (relayapi.MadeCluster, error) {
		return c.Found(r.Context(), *body)
	}))
	mux.HandleFunc("POST "+relayapi.ControlCluster+"/tokens", answering(func(r *http.Request, body *relayapi.NewMemberToken) (relayapi.MemberToken, error) {
		return c.Token(r.Context(), *body)
	}))
	mux.HandleFunc("DELETE "+relayapi.ControlCluster+"/members/{member}", answering(func(r *http.Request, _ *relayapi.Nothing) (relayapi.MemberGone, error) {
		return c.Remove(httpserver.Outlasting(r.Context()), r.PathValue("member"))
	}))
	mux.HandleFunc("POST "+relayapi.ControlCluster+"/handover", answering(func(r *http.Request, _ *relayapi.Nothing) (relayapi.HandedOver, error) {
		return c.HandOver(r.Context())
	}))
	mux.HandleFunc("POST "+relayapi.ControlCluster+"/leave", answering(func(r *http.Request, _ *relayapi.Nothing) (relayapi.MemberGone, error) {
		return c.Leave(httpserver.Outlasting(r.Context()))
	}))
	return mux
}
