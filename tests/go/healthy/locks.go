package main

import (
	"math/rand"
	"sync"
	"time"
)

// Locks in globals: everybody can reach them, so that only the code tells who holds one.
var (
	outer, inner sync.Mutex
	settings     sync.RWMutex
	hits         int
	book         = &ledger{accounts: make([]account, 32)}
)

type account struct {
	sync.Mutex
	balance int
}

type ledger struct {
	sync.RWMutex
	accounts []account
}

type link struct {
	sync.Mutex
	next *link
}

func pause() { time.Sleep(time.Duration(rand.Intn(200)) * time.Microsecond) }

//go:noinline
func nested() {
	outer.Lock()
	defer outer.Unlock()
	pause()
	inner.Lock()
	hits++
	inner.Unlock()
}

// Gives its lock back in between, though the unlock that it has deferred stands all the time.
//
//go:noinline
func givesBackBetween() {
	inner.Lock()
	defer inner.Unlock()
	inner.Unlock()
	outer.Lock()
	pause()
	outer.Unlock()
	inner.Lock()
	hits++
}

//go:noinline
func backsOff() {
	for {
		inner.Lock()
		if outer.TryLock() {
			hits++
			outer.Unlock()
			inner.Unlock()
			return
		}
		inner.Unlock()
		pause()
	}
}

//go:noinline
func readsUnderOuter() int {
	outer.Lock()
	defer outer.Unlock()
	settings.RLock()
	defer settings.RUnlock()
	pause()
	return hits
}

func (l *ledger) transfer(from, to int) {
	l.RLock()
	defer l.RUnlock()
	if from == to {
		return
	}
	if from > to {
		from, to = to, from
	}
	l.accounts[from].Lock()
	defer l.accounts[from].Unlock()
	pause()
	l.accounts[to].Lock()
	defer l.accounts[to].Unlock()
	l.accounts[from].balance--
	l.accounts[to].balance++
}

func forever(count int, work func()) {
	for range count {
		go func() {
			for {
				work()
			}
		}()
	}
}

func init() {
	families["package-locks"] = func() {
		forever(20, nested)
		forever(5, func() { settings.Lock(); pause(); settings.Unlock() })
		forever(10, func() { readsUnderOuter() })
	}
	families["package-locks-given-back"] = func() {
		forever(10, nested)
		forever(10, givesBackBetween)
		// Holds the lock for long again and again, while others queue.
		forever(1, func() { inner.Lock(); time.Sleep(300 * time.Millisecond); inner.Unlock(); pause() })
	}
	families["package-locks-held-for-long"] = func() {
		forever(8, nested)
		forever(8, givesBackBetween)
		forever(1, func() { inner.Lock(); time.Sleep(3 * time.Second); inner.Unlock() })
	}
	families["locks-that-are-tried"] = func() {
		forever(8, nested)
		forever(8, backsOff)
	}
	families["ledger"] = func() {
		forever(20, func() { book.transfer(rand.Intn(32), rand.Intn(32)) })
		forever(2, func() { book.Lock(); book.accounts[0].balance = 0; book.Unlock(); pause() })
	}
	families["hand-over-hand"] = func() {
		first := &link{}
		for last, i := first, 0; i < 20; i++ {
			last.next = &link{}
			last = last.next
		}
		forever(12, func() {
			at := first
			at.Lock()
			for at.next != nil {
				next := at.next
				next.Lock()
				at.Unlock()
				at = next
			}
			pause()
			at.Unlock()
		})
	}
}
