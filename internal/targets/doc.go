// Package targets is what an agent's configuration file says, above all what relays may scrape through the agent: which targets
// there are, how each is named, and how it is asked.
//
// [Load] reads the file whole or says in which line it is wrong; it promises that nothing in it is dropped in silence (T23).
// [Discovery] puts such a configuration to use: it reads the target files that it names, again when they change, announces
// the list, and scrapes what is announced and nothing else. A list says of itself whether it is complete, and a file that
// cannot be read keeps its targets (T24). It starts no goroutine; its owner runs Discovery.Run. The package knows neither relays
// nor the tunnel: whoever announces lists, and asks for scrapes, is told to it. Start reading at [Config], then at [Discovery].
package targets
