package main

import (
	"sync"
	"time"
)

// Everybody can reach a lock in a global, so that only the code tells who holds one.
var (
	first, second, third sync.Mutex
	configuration        sync.RWMutex
	total                int
	shared               = &registry{services: map[string]*service{}}
)

type service struct {
	sync.Mutex
	name  string
	peers []*service
}

type registry struct {
	sync.Mutex
	services map[string]*service
}

//go:noinline
func count(lock *sync.Mutex) {
	lock.Lock()
	total++
	lock.Unlock()
}

//go:noinline
func takesFirstThenSecond() {
	first.Lock()
	settle()
	second.Lock()
	total++
	second.Unlock()
	first.Unlock()
}

//go:noinline
func takesSecondThenFirst() {
	second.Lock()
	defer second.Unlock()
	settle()
	count(&first)
}

//go:noinline
func takesSecondThenThird() {
	second.Lock()
	settle()
	third.Lock()
	total++
	third.Unlock()
	second.Unlock()
}

//go:noinline
func takesThirdThenFirst() {
	third.Lock()
	settle()
	count(&first)
	third.Unlock()
}

//go:noinline
func reloads() {
	configuration.Lock()
	defer configuration.Unlock()
	settle()
	count(&first)
}

//go:noinline
func readsUnderFirst() int {
	first.Lock()
	defer first.Unlock()
	settle()
	configuration.RLock()
	defer configuration.RUnlock()
	return total
}

//go:noinline
func reports() {
	first.Lock()
	defer first.Unlock()
	logs("report")
}

//go:noinline
func logs(string) {
	first.Lock()
	defer first.Unlock()
	total++
}

func (s *service) notify() {
	s.Lock()
	defer s.Unlock()
	settle()
	for _, peer := range s.peers {
		peer.told()
	}
}

func (s *service) told() {
	s.Lock()
	defer s.Unlock()
	s.name += "!"
}

func init() {
	suspected := func(family string, run func() int) {
		families[family] = run
		likely[family] = true
	}
	suspected("package-lock-order", func() int {
		go takesFirstThenSecond()
		go takesSecondThenFirst()
		time.Sleep(100 * time.Millisecond)
		return 2
	})
	suspected("package-lock-ring", func() int {
		go takesFirstThenSecond()
		go takesSecondThenThird()
		go takesThirdThenFirst()
		time.Sleep(100 * time.Millisecond)
		return 3
	})
	suspected("package-rwlock-order", func() int {
		go reloads()
		go readsUnderFirst()
		time.Sleep(100 * time.Millisecond)
		return 2
	})
	suspected("package-lock-twice", func() int {
		go reports()
		return 1
	})
	suspected("package-lock-queue", func() int {
		go takesFirstThenSecond()
		go takesSecondThenFirst()
		time.Sleep(100 * time.Millisecond)
		for range 5 {
			go count(&first)
		}
		return 7
	})
	suspected("registered-services", func() int {
		one, other := &service{name: "one"}, &service{name: "other"}
		one.peers, other.peers = []*service{other}, []*service{one}
		shared.services["one"], shared.services["other"] = one, other
		go one.notify()
		go other.notify()
		time.Sleep(100 * time.Millisecond)
		return 2
	})
}
