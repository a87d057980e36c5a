package recent

import "time"

// A ring holds one point for each of the last minutes.
type ring[T any] struct {
	points [Minutes]T // the point of a minute is at its number modulo Minutes
	newest int64      // the number of the last minute that has a point
}

func minuteOf(t time.Time) int64 { return t.Unix() / 60 }

// at returns the point of a minute, to be changed. Of one that is older than the newest, as after a clock was set back, it is the newest.
func (r *ring[T]) at(minute int64) *T {
	r.advance(minute)
	return &r.points[index(r.newest)]
}

// advance makes a minute the newest, if it is. Those between have nothing.
func (r *ring[T]) advance(minute int64) {
	var none T
	if minute-r.newest > Minutes {
		r.newest = minute - Minutes
	}
	for r.newest < minute {
		r.newest++
		r.points[index(r.newest)] = none
	}
}

// until returns the points up to a minute, which is the last of them.
func (r *ring[T]) until(minute int64) (out [Minutes]T) {
	r.advance(minute)
	for i := range out {
		out[i] = r.points[index(r.newest+1+int64(i))]
	}
	return out
}

// index returns where the point of a minute is; also of one before 1970.
func index(minute int64) int { return int((minute%Minutes + Minutes) % Minutes) }
