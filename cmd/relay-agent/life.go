package main

import (
	"errors"
	"fmt"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/lifetime"
)

// lifeFlags say what a push declares of its group's life.
type lifeFlags struct{ every, schedule, grace, ttl *string }

func newLifeFlags(c *kingpin.CmdClause) *lifeFlags {
	const after = " 0 takes back what was said before, none means none whatever the relay's rules say."
	return &lifeFlags{
		every:    c.Flag("every", "When the next push is due after this one, such as 24h; push_up is 0 once it is late."+after).PlaceHolder("DURATION").String(),
		schedule: c.Flag("schedule", `When pushes are due, as a crontab has it, instead of --every: "15 3 * * *", in UTC, or with the zone in front, "TZ=Europe/Berlin 15 3 * * *".`+after).PlaceHolder("CRON").String(),
		grace:    c.Flag("grace", "How late a push may be, such as 30m."+after).PlaceHolder("DURATION").String(),
		ttl:      c.Flag("ttl", "How long what is pushed is true, such as 72h; then it is exposed no more."+after).PlaceHolder("DURATION").String(),
	}
}

func (f *lifeFlags) declaration() (lifetime.Declaration, error) {
	d, err := lifetime.Parse(lifetime.Texts{TTL: *f.ttl, Every: *f.every, Schedule: *f.schedule, Grace: *f.grace})
	if wrong, ok := errors.AsType[*lifetime.Error](err); ok {
		return d, fmt.Errorf("--%s: %w", wrong.Setting, err)
	}
	return d, nil
}
