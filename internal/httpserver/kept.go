package httpserver

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"
)

// Kept are listeners that outlive what serves on them, so that what follows it in the same process goes on with them: who connects in between waits, and
// is refused by nobody. Its zero value is empty. It is safe for concurrent use.
type Kept struct {
	mu        sync.Mutex
	listeners map[string]net.Listener // guarded by mu; by what they were opened for
	isLast    bool                    // guarded by mu; nothing follows what serves now
	given     []net.Listener          // by systemd; owned by whoever makes servers, one after the other
}

// A pausable listener can be made to stop accepting without being closed.
type pausable interface {
	net.Listener
	SetDeadline(t time.Time) error
}

// Listen returns the listener that is kept for a purpose, or opens it and keeps it. Closing it only ends its use. One that cannot be kept, and every one
// where there is nobody to keep it, is closed for good then.
func (k *Kept) Listen(purpose string, open func() (net.Listener, error)) (net.Listener, error) {
	if k == nil {
		return open()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	l, found := k.listeners[purpose]
	if !found {
		var err error
		if l, err = open(); err != nil {
			return nil, err
		}
	}
	p, can := l.(pausable)
	if !can {
		return l, nil
	}
	if err := p.SetDeadline(time.Time{}); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if k.listeners == nil {
		k.listeners = map[string]net.Listener{}
	}
	k.listeners[purpose] = l
	return &keptListener{pausable: p, kept: k, closed: make(chan struct{})}, nil
}

// fromSystemd returns the listeners that systemd has given, which it does once in the life of a process.
func (k *Kept) fromSystemd() ([]net.Listener, error) {
	if k == nil {
		return systemdListeners()
	}
	if k.given == nil {
		var err error
		if k.given, err = systemdListeners(); err != nil {
			return nil, err
		}
	}
	uses := make([]net.Listener, len(k.given))
	for i, l := range k.given {
		use, err := k.Listen(fmt.Sprint("systemd ", i), func() (net.Listener, error) { return l, nil })
		if err != nil {
			return nil, err
		}
		uses[i] = use
	}
	return uses, nil
}

// LetGo says that nothing follows: to close a listener closes it for good from now on. Who connects is refused then, and may ask another server, where
// until the end of the process it would wait for nobody. A nil Kept keeps nothing.
func (k *Kept) LetGo() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.isLast = true
}

func (k *Kept) hasLetGo() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.isLast
}

// Close closes all listeners for good.
func (k *Kept) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, l := range k.listeners {
		l.Close() // Nobody accepts on it.
	}
	clear(k.listeners)
}

// keptListener is one use of a listener.
type keptListener struct {
	pausable

	kept   *Kept
	once   sync.Once
	closed chan struct{}
}

// Accept waits for the next connection, until Close.
func (l *keptListener) Accept() (net.Conn, error) {
	conn, err := l.pausable.Accept()
	if err == nil {
		return conn, nil
	}
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	default:
		return nil, err
	}
}

// Close ends the use.
func (l *keptListener) Close() error {
	err := net.ErrClosed
	l.once.Do(func() {
		close(l.closed)
		if l.kept.hasLetGo() {
			err = l.pausable.Close()
			return
		}
		err = l.SetDeadline(time.Unix(1, 0)) // wakes Accept
	})
	return err
}

// SyscallConn shows the descriptor, by which the server knows how many are left.
func (l *keptListener) SyscallConn() (syscall.RawConn, error) {
	visible, ok := l.pausable.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return visible.SyscallConn()
}
