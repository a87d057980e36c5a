package exposition

import (
	"bytes"
	"strconv"
)

// maxExactDigits is how many decimal digits a float64 holds whatever they are. A number with no more digits than that is
// itself the shortest spelling of the float it denotes, and converts exactly by one multiplication or division.
const maxExactDigits = 15

// powersOfTen are the powers of ten that a float64 holds exactly.
var powersOfTen = [...]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// decimal is a number as it is spelled: (-1)^negative * mantissa * 10^exponent.
type decimal struct {
	mantissa uint64
	exponent int // of the digits as one whole number
	negative bool
	// canonical says that AppendFloat spells the number in the same way.
	canonical bool
}

// scanDecimal reads the number that src begins with and returns its length, or 0 if the number is not a plain one: no
// digits on one side of the point, a superfluous zero in front, a plus sign, more than maxExactDigits digits, not a number
// at all. Such spellings are left to strconv. The number ends at the first byte that cannot belong to it.
func scanDecimal(src []byte) (d decimal, n int) {
	i := 0
	if i < len(src) && src[i] == '-' {
		d.negative = true
		i++
	}
	first := i
	for i < len(src) && isDigit(src[i]) {
		if i-first == maxExactDigits {
			return d, 0
		}
		d.mantissa = d.mantissa*10 + uint64(src[i]-'0')
		i++
	}
	whole := i - first
	if whole == 0 || whole > 1 && src[first] == '0' {
		return d, 0
	}
	// Without an exponent the spelling is canonical below 1e6 and from 1e-4 on, unless it ends in a superfluous zero.
	d.canonical = whole <= 6
	fraction := 0
	if i < len(src) && src[i] == '.' {
		i++
		point := i
		for i < len(src) && isDigit(src[i]) {
			if whole+i-point == maxExactDigits {
				return d, 0
			}
			d.mantissa = d.mantissa*10 + uint64(src[i]-'0')
			i++
		}
		fraction = i - point
		if fraction == 0 {
			return d, 0
		}
		d.exponent = -fraction
		d.canonical = d.canonical && src[i-1] != '0' && (src[first] != '0' || leadingZeros(src[point:i]) < 4)
	}
	if d.mantissa == 0 && d.negative {
		d.canonical = false // -0 is rendered as 0
	}
	if i == len(src) || src[i]|0x20 != 'e' {
		return d, i
	}
	e, length := scanExponent(src[i:])
	if length == 0 {
		return d, 0
	}
	// With an exponent there is one digit before the point, and the exponent has a sign and two digits at least.
	d.exponent += e
	d.canonical = (e < -4 || e >= 6) && src[i] == 'e' && length == 4 && whole == 1 && src[first] != '0' &&
		(fraction == 0 || src[i-1] != '0')
	return d, i + length
}

// scanExponent reads an exponent of one or two digits with its e and returns its length, or 0 if it is another one.
func scanExponent(src []byte) (e, n int) {
	i := 1
	negative := false
	if i < len(src) && (src[i] == '+' || src[i] == '-') {
		negative = src[i] == '-'
		i++
	}
	first := i
	for i < len(src) && isDigit(src[i]) {
		e = e*10 + int(src[i]-'0')
		i++
		if i-first > 2 {
			return 0, 0
		}
	}
	if i == first {
		return 0, 0
	}
	if negative {
		e = -e
	}
	return e, i
}

// float returns the number and whether it could be had exactly in one operation.
func (d decimal) float() (float64, bool) {
	f := float64(d.mantissa)
	switch {
	case d.exponent >= len(powersOfTen) || d.exponent <= -len(powersOfTen):
		return 0, false
	case d.exponent >= 0:
		f *= powersOfTen[d.exponent]
	default:
		f /= powersOfTen[-d.exponent]
	}
	if d.negative && f != 0 {
		f = -f
	}
	return f, true
}

// parseFloat is what expfmt takes for a number: all that strconv does, but no underscores and no hexadecimal exponents.
// The result is canonical.
func parseFloat(token []byte) (float64, bool) {
	if d, n := scanDecimal(token); n > 0 && n == len(token) {
		if f, ok := d.float(); ok {
			return f, true
		}
	}
	if bytes.ContainsAny(token, "pP_") {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(token), 64)
	return canonical(f), err == nil
}

func leadingZeros(digits []byte) int {
	n := 0
	for n < len(digits) && digits[n] == '0' {
		n++
	}
	return n
}

func isDigit(b byte) bool { return b >= '0' && b <= '9' }
