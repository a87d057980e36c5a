package groupstore

import (
	"cmp"
	"slices"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
)

// What was answered to pushes with a key of their own is remembered, so that whoever asks again hears the same, and nothing happens twice (L13). It
// follows from the changes alone: an answer is part of the change that it is about, and is forgotten by the time of a later one.

const (
	// answerLife is how long an answer is remembered.
	answerLife = 15 * time.Minute
	// maxAnswers is how many answers are remembered of one group, and maxAllAnswers of all, whether they are there or not.
	maxAnswers    = 4096
	maxAllAnswers = 1 << 20
)

// An answer is what was answered to a push with a key. It is immutable.
type answer struct {
	key    [16]byte
	digest change.Digest
	at     int64 // nanoseconds since the epoch
	kind   change.Kind
	detail string
	// unknown are fields of a later release.
	unknown string
}

// answers are those that are remembered. They are guarded by Store.mu.
type answers struct {
	byKey   map[answerKey]*answer // the newest of each
	ofGroup map[string][]*answer  // by canonical key, the oldest first
	oldest  []keyedAnswer         // of all groups, the oldest first
	feeds   *feeds                // static: who follows
}

// An answerKey is a group, and the key of a push to it.
type answerKey struct {
	canonical string
	key       [16]byte
}

// A keyedAnswer is an answer and its group.
type keyedAnswer struct {
	canonical string
	position  uint64 // of the change that it is part of
	*answer
}

// find returns the answer to a push with that key; nil if there is none, or no more.
func (as *answers) find(canonical string, key [16]byte, now int64) *answer {
	if a := as.byKey[answerKey{canonical, key}]; a != nil && now-a.at < int64(answerLife) {
		return a
	}
	return nil
}

// isFull says whether no more can be remembered of a group, or at all.
func (as *answers) isFull(canonical string, now int64) bool {
	fresh := func(a *answer) bool { return now-a.at < int64(answerLife) }
	ofGroup := as.ofGroup[canonical]
	return len(ofGroup) >= maxAnswers && fresh(ofGroup[len(ofGroup)-maxAnswers]) ||
		len(as.oldest) >= maxAllAnswers && fresh(as.oldest[len(as.oldest)-maxAllAnswers].answer)
}

// add remembers an answer, and forgets those that are too old by its time.
func (as *answers) add(a keyedAnswer) {
	as.enter(a)
	for len(as.oldest) > 0 && a.at-as.oldest[0].at >= int64(answerLife) {
		as.dropOldest()
	}
}

// enter remembers an answer that is newer than all others.
func (as *answers) enter(a keyedAnswer) {
	if as.ofGroup == nil {
		as.ofGroup, as.byKey = map[string][]*answer{}, map[answerKey]*answer{}
	}
	as.feeds.noteAnswer(a.position)
	as.byKey[answerKey{a.canonical, a.key}] = a.answer
	as.ofGroup[a.canonical] = append(as.ofGroup[a.canonical], a.answer)
	as.oldest = append(as.oldest, a)
}

// dropOldest forgets the oldest answer.
func (as *answers) dropOldest() {
	old := as.oldest[0]
	as.feeds.noteAnswer(old.position)
	as.oldest[0] = keyedAnswer{}
	as.oldest = as.oldest[1:]
	if key := (answerKey{old.canonical, old.key}); as.byKey[key] == old.answer {
		delete(as.byKey, key)
	}
	if rest := as.ofGroup[old.canonical][1:]; len(rest) > 0 {
		as.ofGroup[old.canonical] = rest
	} else {
		delete(as.ofGroup, old.canonical)
	}
}

// at returns the answer that is part of the change at that position.
func (as *answers) at(position uint64) (a keyedAnswer, ok bool) {
	i, ok := slices.BinarySearchFunc(as.oldest, position, func(a keyedAnswer, p uint64) int { return cmp.Compare(a.position, p) })
	if !ok {
		return a, false
	}
	return as.oldest[i], true
}

// answered finds out whether the change was answered before, or cannot be remembered. It says whether there is nothing more to decide.
func (x *decision) answered() bool {
	o := x.change.Once
	if o == nil {
		return false
	}
	canonical, now := x.key.Canonical(), x.at
	a := x.answers.find(canonical, o.Key, now)
	switch {
	case a != nil && a.digest != o.Digest:
		x.found, x.refusal = OtherSeries, change.Refuse(change.Reused, "the Idempotency-Key of this push was that of another one to the group less than %s ago: take a new key for each push, and the same only to push the same again", answerLife)
	case a != nil:
		x.found, x.before = OtherSeries, a
		x.moveMark(x.group) // logged, so that the answer is durable when it is given again
	case x.answers.isFull(canonical, now):
		x.found, x.refusal = OtherSeries, change.Refuse(change.Full, "the answers to the last %d pushes with an Idempotency-Key are remembered for %s, and there is no room for one more: push less often, or without a key what need not be counted", maxAnswers, answerLife)
		x.refusal.RetryAfter = retryFullAgent
	default:
		return false
	}
	return true
}

// remember makes the answer part of the effect, if it is one for good. What has no other effect gets that of a mark.
func (x *decision) remember() {
	o := x.change.Once
	if o == nil || x.found == Unmet {
		return
	}
	outcome := x.outcome(&x.draft, x.check)
	if !outcome.IsFinal() {
		return
	}
	if x.effect.Operation == 0 {
		x.moveMark(x.groups.byKey[x.key.Canonical()])
	}
	x.effect.answer = &answer{key: o.Key, digest: o.Digest, at: x.at, kind: outcome.Kind, detail: exposition.Clip(outcome.Detail, keptBytes)}
}

// The answers that are remembered, by their numbers in records.
var answerKinds = [...]change.Kind{change.Applied, change.Unchecked, change.Inconsistent}
