package lifetime

import (
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // the same zones everywhere, also where the machine has none

	"github.com/robfig/cron/v3"
)

// maxScheduleBytes bounds the text of a schedule.
const maxScheduleBytes = 256

// Schedule is a set of times, as crontabs have them. It is made by [ParseSchedule] and immutable.
type Schedule struct {
	spec cron.Schedule
	zone *time.Location
}

var fiveFields = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)

// ParseSchedule reads minute, hour, day of the month, month and day of the week, with TZ=Europe/Berlin in front where the zone matters; without
// it they are in UTC.
func ParseSchedule(text string) (*Schedule, error) {
	const want = `want five fields as in a crontab, such as "15 3 * * *", with TZ=Europe/Berlin in front for times that are not UTC`
	if len(text) > maxScheduleBytes {
		return nil, fmt.Errorf("the schedule has %d bytes, and %d are allowed; %s", len(text), maxScheduleBytes, want)
	}
	zone, rest := time.UTC, strings.TrimSpace(text)
	if named, ok := strings.CutPrefix(rest, "TZ="); ok {
		name, fields, _ := strings.Cut(named, " ")
		var err error
		if zone, err = time.LoadLocation(name); err != nil || name == "" || name == "Local" {
			return nil, fmt.Errorf("schedule %q: there is no time zone %.64q; %s", text, name, want)
		}
		rest = strings.TrimSpace(fields)
	}
	// The library knows other words for a zone, and panics on some of them.
	if strings.Contains(rest, "=") || len(strings.Fields(rest)) != 5 {
		return nil, fmt.Errorf("schedule %q has not just five fields; %s", text, want)
	}
	spec, err := fiveFields.Parse(sundayIsZero(rest))
	if err != nil {
		return nil, fmt.Errorf("schedule %q: %w; %s", text, err, want)
	}
	s := &Schedule{spec: spec, zone: zone}
	if s.After(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, fmt.Errorf("schedule %q never comes: no month has such a day", text)
	}
	return s, nil
}

// sundayIsZero writes the day of the week 7 as 0, which is all that the library knows: a range that ends with it gets Sunday beside it.
func sundayIsZero(fields string) string {
	f := strings.Fields(fields)
	days := strings.Split(f[4], ",")
	for i, day := range days {
		span, step, stepped := strings.Cut(day, "/")
		switch from, to, ranged := strings.Cut(span, "-"); {
		case span == "7":
			days[i] = "0" + day[1:]
		case ranged && to == "7" && (!stepped || step == "1") && from != "7":
			days[i] = from + "-6,0"
		}
	}
	f[4] = strings.Join(days, ",")
	return strings.Join(f, " ")
}

// After returns the first time of the schedule after t; the zero time if there is none for five years. Where clocks are set back, times that come
// twice count the first time only, as cron runs a job once.
func (s *Schedule) After(t time.Time) time.Time {
	next := s.spec.Next(t.In(s.zone))
	for !next.IsZero() && isSecond(next) {
		next = s.spec.Next(next)
	}
	return next
}

// isSecond says whether clocks showed the same time an hour before.
func isSecond(t time.Time) bool {
	before := t.Add(-time.Hour)
	return before.Hour() == t.Hour() && before.Minute() == t.Minute() && before.Day() == t.Day()
}
