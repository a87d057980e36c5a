package spool

import (
	"sync"

	"pushrelay/internal/exposition"
)

// parsers read bodies, and are used again.
type parsers struct{ pool sync.Pool }

func (p *parsers) get() *exposition.Parser {
	if parser, ok := p.pool.Get().(*exposition.Parser); ok {
		return parser
	}
	return new(exposition.Parser)
}

// put gives a parser back. What it has read is used no more.
func (p *parsers) put(parser *exposition.Parser) {
	parser.Reset()
	p.pool.Put(parser)
}
