// Package identity keeps what an agent is: for each authority of relays the certificate that it got there with its key, the CAs that verify those
// relays, and where they are dialled. It also has what belongs to that: new keys, the requests that they sign, and the check of what a relay issued.
//
// It promises that an identity is on the disk whole or not at all, whenever the agent or its machine ends: a new one is renamed into place, and
// certificate and key are one file, which is replaced by one rename (I2, I4). Nothing is written that was not checked against the key that was made for
// it and the authority that was asked. It knows no network. Start reading at [Store].
package identity
