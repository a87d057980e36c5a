package push

import (
	"errors"
	"net/http"
	"strings"

	"pushrelay/internal/change"
	"pushrelay/internal/lifetime"
)

// The headers by which a push says what it knows of its group's life (L1), and that its job failed (L4).
const (
	TTLHeader      = "Push-TTL"
	EveryHeader    = "Push-Every"
	ScheduleHeader = "Push-Schedule"
	GraceHeader    = "Push-Grace"
	FailedHeader   = "Push-Failed"
)

// OperationHeader says what a POST does beside replacing families (L11): "merge" replaces single series, "add" adds to them.
const OperationHeader = "Push-Operation"

// OnceHeader has what a direct push is called by who pushes it: pushed again under the same name it happens once, and is answered the same (L13).
const OnceHeader = "Idempotency-Key"

// maxOnceBytes bounds the name of a push.
const maxOnceBytes = 256

// readOnce takes over the key of a push that is complete otherwise.
func readOnce(c *change.Change, h http.Header) error {
	key, err := onlyValue(h, OnceHeader)
	if err != nil || key == "" {
		return err
	}
	if len(key) > maxOnceBytes {
		return change.Refuse(change.Invalid, "the header %s has %d bytes, and %d are allowed: a UUID has 36", OnceHeader, len(key), maxOnceBytes)
	}
	c.Once = change.NewOnce(key, c)
	return nil
}

var operationWords = map[string]change.Operation{"merge": change.MergeSeries, "add": change.Add}

// readOperation takes over what a POST asks for by its header. A PUT replaces the group, and cannot ask for anything else.
func readOperation(c *change.Change, h http.Header) error {
	word, err := onlyValue(h, OperationHeader)
	if err != nil || word == "" {
		return err
	}
	op, known := operationWords[word]
	switch {
	case !known:
		return change.Refuse(change.Invalid, `the header %s is %.64q, want "merge" (replace single series) or "add"`, OperationHeader, word)
	case c.Operation != change.Merge:
		return change.Refuse(change.Invalid, "the header %s goes with POST: a PUT replaces all that the group has", OperationHeader)
	}
	c.Operation = op
	return nil
}

// lifeHeaders are the headers of the settings, by the names that [lifetime.Error] has for them.
var lifeHeaders = map[string]string{"ttl": TTLHeader, "every": EveryHeader, "schedule": ScheduleHeader, "grace": GraceHeader}

// SetLife sets the headers of a push that says so; what it does not say has none.
func SetLife(h http.Header, life lifetime.Declaration, failed string) {
	texts := life.Texts()
	for name, text := range map[string]string{
		TTLHeader: texts.TTL, EveryHeader: texts.Every, ScheduleHeader: texts.Schedule, GraceHeader: texts.Grace, FailedHeader: change.FailedText(failed),
	} {
		if text != "" {
			h.Set(name, text)
		}
	}
}

// readLife takes over what the headers of a push say of its group's life and of its job.
func readLife(c *change.Change, h http.Header) error {
	var texts lifetime.Texts
	for _, header := range []struct {
		name string
		text *string
	}{{TTLHeader, &texts.TTL}, {EveryHeader, &texts.Every}, {ScheduleHeader, &texts.Schedule}, {GraceHeader, &texts.Grace}, {FailedHeader, &c.Failed}} {
		var err error
		if *header.text, err = onlyValue(h, header.name); err != nil {
			return err
		}
	}
	c.Failed = change.FailedText(c.Failed)
	var err error
	if c.Life, err = lifetime.Parse(texts); err != nil {
		return change.Refuse(change.Invalid, "the header %s: %v", nameOfFault(err), err)
	}
	return nil
}

// onlyValue returns the value of a header without the blanks around it; empty if there is none. It may come more than once with the same one, as proxies do.
func onlyValue(h http.Header, name string) (string, error) {
	value := ""
	for i, v := range h.Values(name) {
		v = strings.TrimSpace(v)
		if i > 0 && v != value {
			return "", change.Refuse(change.Invalid, "the header %s comes twice, with different values", name)
		}
		value = v
	}
	return value, nil
}

// nameOfFault returns the header that is wrong.
func nameOfFault(err error) string {
	if wrong, ok := errors.AsType[*lifetime.Error](err); ok {
		return lifeHeaders[wrong.Setting]
	}
	return ""
}
