package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
)

// A row is one line of the results.
type row struct {
	// Section is the section's name, What the measurement in words.
	Section string `json:"section"`
	What    string `json:"what"`
	// Unit is that of Relay and Beside.
	Unit string `json:"unit"`
	// Relay is what was measured of our programs.
	Relay spread `json:"relay"`
	// Beside is what it is compared with, BesideWhat; nil if with nothing.
	Beside     *spread `json:"beside,omitempty"`
	BesideWhat string  `json:"beside_what,omitempty"`
	// Compared is the comparison of what was measured in the same round: its Kind is "times" or "more".
	Compared     *spread `json:"compared,omitempty"`
	ComparedKind string  `json:"compared_kind,omitempty"`
	// Limit is what is asked for; nil if nothing is.
	Limit *limit `json:"limit,omitempty"`
	// Met says whether the median keeps the limit; nil without one, and in a quick run.
	Met *bool `json:"met,omitempty"`
	// Rounds is the number of rounds.
	Rounds int    `json:"rounds"`
	Note   string `json:"note,omitempty"`
}

// A limit is a bound of one of a row's figures.
type limit struct {
	// Bound is in the unit of the figure.
	Bound float64 `json:"bound"`
	// Of is the figure: "relay" or "compared".
	Of    string `json:"of"`
	Least bool   `json:"least,omitempty"` // the bound is a minimum and no maximum
	// OrAbsolute is a bound of the relay's own figure that is enough by itself; 0 for none.
	OrAbsolute float64 `json:"or_absolute,omitempty"`
}

// newRow returns the row of a measurement that is compared with nothing.
func newRow(what, unit string, of samples) row {
	return row{What: what, Unit: unit, Relay: of.spread(), Rounds: len(of)}
}

// times adds what the measurement is divided by.
func (r row) times(of samples, besideWhat string, beside samples) row {
	return r.comparedWith(besideWhat, beside, "times", of.pairwise(beside, ratio))
}

// more adds what is taken from the measurement.
func (r row) more(of samples, besideWhat string, beside samples) row {
	return r.comparedWith(besideWhat, beside, "more", of.pairwise(beside, difference))
}

func (r row) comparedWith(besideWhat string, beside samples, kind string, compared samples) row {
	b, c := beside.spread(), compared.spread()
	r.Beside, r.BesideWhat, r.Compared, r.ComparedKind = &b, besideWhat, &c, kind
	return r
}

func (r row) noting(note string) row { r.Note = note; return r }

// limited adds the limit.
func (r row) limited(l limit) row { r.Limit = &l; return r }

// keeps reports whether the medians keep the limit.
func (r row) keeps() bool {
	figure := r.Relay.Median
	if r.Limit.Of == "compared" {
		figure = r.Compared.Median
	}
	enough := r.Limit.OrAbsolute
	if r.Limit.Least {
		return figure >= r.Limit.Bound || enough > 0 && r.Relay.Median >= enough
	}
	return figure <= r.Limit.Bound || enough > 0 && r.Relay.Median <= enough
}

// A report is all results of one run.
type report struct {
	Machine machine `json:"machine"`
	Quick   bool    `json:"quick"`
	Rows    []row   `json:"rows"`
}

// add takes the rows of a section and judges them. A quick run has not the sizes of the limits, and is not judged.
func (r *report) add(section string, rows []row) {
	for _, each := range rows {
		each.Section = section
		if each.Limit != nil && !r.Quick {
			met := each.keeps()
			each.Met = &met
		}
		r.Rows = append(r.Rows, each)
	}
}

// write prints the results, and writes the files that were asked for.
func (r *report) write(stdout io.Writer, o options) error {
	page := r.markdown()
	fmt.Fprintf(stdout, "%s", page)
	if o.markdownFile != "" {
		if err := os.WriteFile(o.markdownFile, []byte(page), 0o644); err != nil {
			return fmt.Errorf("writing the results: %w", err)
		}
	}
	if o.jsonFile == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the results: %w", err)
	}
	if err := os.WriteFile(o.jsonFile, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	return nil
}

// markdown returns the results as a page.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.Machine)
	if r.Quick {
		b.WriteString("\nA quick run: small sizes, and no limit is judged.\n")
	}
	section := ""
	for _, each := range r.Rows {
		if each.Section != section {
			section = each.Section
			fmt.Fprintf(&b, "\n**%s**\n\n| measured | relay | beside | compared | limit | |\n|---|---|---|---|---|---|\n", section)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n",
			each.what(), figures(each.Relay, each.Unit), each.beside(), each.compared(), each.limit(), each.verdict())
	}
	return b.String()
}

func (r row) what() string {
	if r.Note == "" {
		return r.What
	}
	return r.What + " (" + r.Note + ")"
}

func (r row) beside() string {
	if r.Beside == nil {
		return ""
	}
	return r.BesideWhat + ": " + figures(*r.Beside, r.Unit)
}

func (r row) compared() string {
	switch {
	case r.Compared == nil:
		return ""
	case r.ComparedKind == "times":
		return figures(*r.Compared, "times")
	default:
		return figures(*r.Compared, r.Unit+" more")
	}
}

func (r row) limit() string {
	if r.Limit == nil {
		return ""
	}
	sign := "≤"
	if r.Limit.Least {
		sign = "≥"
	}
	unit := r.Unit
	switch {
	case r.Limit.Of != "compared":
	case r.ComparedKind == "times":
		unit = "times"
	default:
		unit += " more"
	}
	text := fmt.Sprintf("%s %s %s", sign, figure(r.Limit.Bound), unit)
	if r.Limit.OrAbsolute > 0 {
		text += fmt.Sprintf(" or %s %s %s", sign, figure(r.Limit.OrAbsolute), r.Unit)
	}
	return text
}

func (r row) verdict() string {
	switch {
	case r.Met == nil:
		return ""
	case *r.Met:
		return "met"
	default:
		return "**not met**"
	}
}

// figures shows a median with its extremes, if they differ.
func figures(s spread, unit string) string {
	if s.Low == s.High {
		return figure(s.Median) + " " + unit
	}
	return fmt.Sprintf("**%s** (%s–%s) %s", figure(s.Median), figure(s.Low), figure(s.High), unit)
}

// figure shows three digits: more would be noise.
func figure(f float64) string {
	if math.Abs(f) >= 1000 {
		return strconv.FormatFloat(f, 'f', 0, 64)
	}
	return strconv.FormatFloat(f, 'g', 3, 64)
}
