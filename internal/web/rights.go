package web

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/target"
)

// Rights are what somebody may see and change. The zero value is to see all and to change nothing.
type Rights struct {
	// Who tells who asks from others; empty for somebody whom nobody knows.
	Who string
	// Nothing is why they may see nothing at all, for those who do; nil for all others.
	Nothing error
	// SeesGroup and SeesTarget say which groups and targets are shown; nil for all. A nil target stands for its agent by itself.
	SeesGroup  func(key grouping.Key) bool
	SeesTarget func(agent string, t *target.Target) bool
	// HidesStatus leaves out what the relay tells of itself: its flags, its build, its store and what all do together.
	HidesStatus bool

	// OffersDeletion says which groups may be deleted, as far as pages offer it; nil for none. Delete says why a group may not be deleted, when
	// somebody tries; nil if it may.
	OffersDeletion func(key grouping.Key) bool
	Delete         func(key grouping.Key) error
	// OffersForgetting says whether agents may be forgotten, and Forget why one may not, as above.
	OffersForgetting bool
	Forget           func(agent string) error
	// Refusal is what is told where nothing may be changed, in a sentence that says what to do.
	Refusal string
}

func (r *Rights) seesGroup(key grouping.Key) bool { return r.SeesGroup == nil || r.SeesGroup(key) }

// told returns a reason as they may read it.
func (r *Rights) told(reason string) string { return change.Readable(reason, r.SeesGroup) }

func (r *Rights) offersDeletion(key grouping.Key) bool {
	return r.OffersDeletion != nil && r.seesGroup(key) && r.OffersDeletion(key)
}

// isNarrow says whether there is anything that they do not see.
func (r *Rights) isNarrow() bool { return r.SeesGroup != nil || r.SeesTarget != nil || r.HidesStatus }

// mayDelete returns why a group may not be deleted, nil if it may.
func (r *Rights) mayDelete(key grouping.Key) error {
	if r.Delete == nil {
		return errors.New(r.Refusal)
	}
	return r.Delete(key)
}

// mayForget returns why an agent may not be forgotten, nil if it may.
func (r *Rights) mayForget(agent string) error {
	if r.Forget == nil {
		return errors.New(r.Refusal)
	}
	return r.Forget(agent)
}

// tokenHeader is where a page proves that it is one of ours.
const tokenHeader = "X-Relay-Token"

// token is in the pages of whoever asks, and in no other site's: other sites cannot read our pages, and who reads one cannot use it for a
// request of another user's browser.
func (h *Handler) token(rights *Rights) string {
	sum := hmac.New(sha256.New, h.secret[:])
	sum.Write([]byte(rights.Who))
	return base64.RawURLEncoding.EncodeToString(sum.Sum(nil))
}

// isOurs says whether a change comes from a page of ours. Behind a proxy that changes Host, as nginx does by default, that cannot be told by
// where the page says that it is from; the token tells it.
func (h *Handler) isOurs(r *http.Request, rights *Rights) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		return false
	}
	return hmac.Equal([]byte(r.Header.Get(tokenHeader)), []byte(h.token(rights)))
}
