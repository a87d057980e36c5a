package httpserver

import "context"

// Outlasting returns a context for what must be brought to its end and answered once a request is taken. The request's own
// ends when the other end closes its sending half, which `nc -N` and socat do as soon as they have sent all; whether anybody
// still reads cannot be told. The returned one ends when the server does, in time for an answer. It has no deadline: the
// caller gives it one.
func Outlasting(ctx context.Context) context.Context {
	c := connOf(ctx)
	if c == nil {
		return context.WithoutCancel(ctx)
	}
	return serverContext{Context: c.server.ending, request: ctx}
}

// serverContext ends as the server does and has the values of a request. Unlike a context of context.AfterFunc it costs one
// allocation, and nothing is entered at the server for each request.
type serverContext struct {
	context.Context

	request context.Context
}

// Value asks the server's context first, by which package context finds where those that are made of this one are ended.
func (c serverContext) Value(key any) any {
	if value := c.Context.Value(key); value != nil {
		return value
	}
	return c.request.Value(key)
}
