// Package lifetime says how long what was pushed is true, and when the next push is due: what a push declares of it, what rules say where
// it does not, and the dates that follow. The words are those of docs/rules.md, L1 to L8.
//
// The package is values and arithmetic: it has no clock, no file and no store. Start reading at [Declaration], then [Regime].
package lifetime

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/common/model"
)

// Period is a duration of a declaration, in nanoseconds, or one of the words that stand for none.
type Period int64

const (
	// Unsaid says nothing. It is the zero value.
	Unsaid Period = 0
	// None means that there is none, whatever rules say.
	None Period = -1
	// ByRule takes back what was declared before, so that rules apply again. A group never keeps it.
	ByRule Period = -2
)

// MaxPeriod bounds every duration, so that dates never overflow.
const MaxPeriod = 100 * 365 * 24 * time.Hour

// Declaration is what a push says of its group's life. Each setting stands for itself; every and schedule are two ways to say one of them.
// The zero value says nothing. It is comparable.
type Declaration struct {
	// TTL is how long what was pushed is true, from its push time.
	TTL Period
	// Every is when the next push is due, from the last one. It also carries the words that take a schedule back.
	Every Period
	// Schedule is when pushes are due, as [ParseSchedule] reads it; empty if Every says it.
	Schedule string
	// Grace is how late a push may be.
	Grace Period
}

// The words of a declaration that are no duration.
const (
	noneWord   = "none"
	byRuleWord = "0"
)

// Texts are the settings of a declaration as people write them: "72h", "none", "0" to take back, empty for nothing.
type Texts struct{ TTL, Every, Schedule, Grace string }

// Error says what is wrong with a setting, and what to do. [Parse] fails with no other.
type Error struct {
	// Setting is the name of the setting: "ttl", "every", "schedule" or "grace".
	Setting string

	reason string
}

func (e *Error) Error() string { return e.reason }

// Parse reads a declaration. The text of an error names the setting and says what to do.
func Parse(t Texts) (d Declaration, err error) {
	if t.Every != "" && t.Schedule != "" {
		return d, &Error{"every", "every and schedule are both set: the next push is due either some time after the last one, or at fixed times"}
	}
	var ttlErr, everyErr, graceErr, scheduleErr error
	d.TTL, ttlErr = parsePeriod("ttl", t.TTL)
	d.Every, everyErr = parsePeriod("every", t.Every)
	d.Grace, graceErr = parsePeriod("grace", t.Grace)
	switch t.Schedule {
	case "":
	case noneWord:
		d.Every = None
	case byRuleWord:
		d.Every = ByRule
	default:
		d.Schedule = strings.Join(strings.Fields(t.Schedule), " ") // it is part of a header, and of a line of a page
		if _, err := ParseSchedule(t.Schedule); err != nil {
			scheduleErr = &Error{"schedule", err.Error()}
		}
	}
	if err := cmp.Or(ttlErr, everyErr, scheduleErr, graceErr); err != nil {
		return Declaration{}, err
	}
	return d, nil
}

func parsePeriod(name, text string) (Period, error) {
	switch text {
	case "":
		return Unsaid, nil
	case noneWord:
		return None, nil
	}
	d, err := model.ParseDuration(text)
	switch {
	case err != nil || time.Duration(d) > MaxPeriod:
		return Unsaid, &Error{name, fmt.Sprintf("%s is %.64q, want a duration such as 30m or 1d12h of at most 100y, 0 to take back what was declared, or none", name, text)}
	case d == 0:
		return ByRule, nil
	default:
		return Period(d), nil
	}
}

// Restore reads a declaration that was parsed before, perhaps by another release or on another machine, which may know other time zones. Its
// schedule is kept as it is; one that cannot be read here is no expectation.
func Restore(t Texts) (Declaration, error) {
	schedule := t.Schedule
	t.Schedule = ""
	d, err := Parse(t)
	if err == nil && (len(schedule) > maxScheduleBytes || schedule != "" && d.Every != Unsaid) {
		err = errors.New("there is no such schedule")
	}
	if err != nil {
		return Declaration{}, err
	}
	d.Schedule = schedule
	return d, nil
}

// Texts returns what [Parse] reads as the same declaration.
func (d Declaration) Texts() Texts {
	return Texts{TTL: d.TTL.text(), Every: d.Every.text(), Schedule: d.Schedule, Grace: d.Grace.text()}
}

func (p Period) text() string {
	switch p {
	case Unsaid:
		return ""
	case None:
		return noneWord
	case ByRule:
		return byRuleWord
	default:
		return model.Duration(p).String()
	}
}

// IsZero says whether the declaration says nothing.
func (d Declaration) IsZero() bool { return d == Declaration{} }

// And returns what holds of a group once a push has said more: what the push does not speak of stays.
func (d Declaration) And(more Declaration) Declaration {
	d.TTL, d.Grace = d.TTL.and(more.TTL), d.Grace.and(more.Grace)
	if more.isExpecting() {
		d.Every, d.Schedule = Unsaid.and(more.Every), more.Schedule
	}
	return d
}

func (p Period) and(more Period) Period {
	switch more {
	case Unsaid:
		return p
	case ByRule:
		return Unsaid
	default:
		return more
	}
}

// IsKept says whether it is a declaration that a group may have: nothing in it is taken back.
func (d Declaration) IsKept() bool { return d.TTL != ByRule && d.Every != ByRule && d.Grace != ByRule }

// Then returns what two pushes say together, of which next is the later one: a group that hears it has then what it has after both of them.
// Unlike a group, it keeps that something was taken back.
func (d Declaration) Then(next Declaration) Declaration {
	d.TTL, d.Grace = cmp.Or(next.TTL, d.TTL), cmp.Or(next.Grace, d.Grace)
	if next.isExpecting() {
		d.Every, d.Schedule = next.Every, next.Schedule
	}
	return d
}

// Retraction returns what takes back all that the declaration says.
func (d Declaration) Retraction() (r Declaration) {
	if d.TTL != Unsaid {
		r.TTL = ByRule
	}
	if d.Grace != Unsaid {
		r.Grace = ByRule
	}
	if d.isExpecting() {
		r.Every = ByRule
	}
	return r
}

// isExpecting says whether the declaration speaks of when the next push is due.
func (d Declaration) isExpecting() bool { return d.Every != Unsaid || d.Schedule != "" }
