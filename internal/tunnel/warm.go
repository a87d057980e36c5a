package tunnel

// Warm makes the buffers of a first scrape ready, about 800 KiB. A machine has to find memory when it is touched for the first
// time, which on a slow one is a twentieth of a scrape of 1 MiB over 100 ms. What no scrape takes is given up by the second garbage
// collection, as every buffer is that is not used.
func Warm() {
	reading, sending := NewChunk(), NewChunk()
	held := heldBuffer(BurstBytes)
	for _, buffer := range [][]byte{reading.Room(), sending.Room(), (*held)[:cap(*held)]} {
		touch(buffer)
	}
	reading.Drop()
	sending.Drop()
	heldBuffers.Put(held)
}

// touch writes to every page.
func touch(b []byte) {
	const pageBytes = 4 << 10
	for i := 0; i < len(b); i += pageBytes {
		b[i] = 0
	}
}
