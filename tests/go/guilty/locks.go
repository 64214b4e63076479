package main

import (
	"sync"
	"time"
)

type accounts struct {
	first, second, third sync.Mutex
	total                int
}

func (a *accounts) transfer() {
	a.first.Lock()
	defer a.first.Unlock()
	settle()
	a.second.Lock()
	a.total++
	a.second.Unlock()
}

func (a *accounts) audit() {
	a.second.Lock()
	settle()
	a.first.Lock()
	a.total++
	a.first.Unlock()
	a.second.Unlock()
}

type cache struct {
	sync.RWMutex
	entries map[string]int
}

func (c *cache) get(key string) int {
	c.RLock()
	defer c.RUnlock()
	if value, ok := c.entries[key]; ok {
		return value
	}
	return c.fill(key)
}

func (c *cache) fill(key string) int {
	c.Lock()
	defer c.Unlock()
	c.entries[key] = 1
	return 1
}

func (c *cache) sum(inside func()) (sum int) {
	c.RLock()
	defer c.RUnlock()
	for key := range c.entries {
		inside()
		sum += c.get(key)
	}
	return sum
}

type counter struct {
	sync.Mutex
	value int
}

func (c *counter) add(limit int) bool {
	c.Lock()
	if c.value >= limit {
		return false
	}
	c.value++
	c.Unlock()
	return true
}

func (c *counter) addTwice() {
	c.Lock()
	defer c.Unlock()
	c.add(10)
}

func init() {
	families["lock-order"] = func() int {
		a := &accounts{}
		go a.transfer()
		go a.audit()
		time.Sleep(100 * time.Millisecond)
		return 2
	}
	families["lock-ring"] = func() int {
		a := &accounts{}
		take := func(one, other *sync.Mutex) {
			one.Lock()
			settle()
			other.Lock()
			other.Unlock()
			one.Unlock()
		}
		go take(&a.first, &a.second)
		go take(&a.second, &a.third)
		go take(&a.third, &a.first)
		time.Sleep(100 * time.Millisecond)
		return 3
	}
	families["lock-twice"] = func() int {
		go (&counter{}).addTwice()
		return 1
	}
	families["lock-abandoned"] = func() int {
		c := &counter{}
		c.add(0)
		for range 3 {
			go c.add(0)
		}
		return 3
	}
	families["lock-copied"] = func() int {
		c := &counter{}
		c.Lock()
		copied := *c //nolint:govet // the fault
		c.Unlock()
		go copied.add(1)
		return 1
	}
	families["lock-behind-panic"] = func() int {
		c := &counter{}
		func() {
			defer func() { _ = recover() }()
			c.Lock()
			panic("before the unlock")
		}()
		go c.add(1)
		return 1
	}
	families["philosophers"] = func() int {
		// A lock alone is so small that it shares its block of the heap with strangers, which may be in use.
		type fork struct {
			sync.Mutex
			uses [2]int
		}
		forks := make([]*fork, 5)
		for i := range forks {
			forks[i] = new(fork)
		}
		for i := range forks {
			go func() {
				left, right := forks[i], forks[(i+1)%len(forks)]
				left.Lock()
				defer left.Unlock()
				settle()
				right.Lock()
				defer right.Unlock()
			}()
		}
		time.Sleep(100 * time.Millisecond)
		return 5
	}
	families["rwlock-upgrade"] = func() int {
		go (&cache{entries: map[string]int{}}).get("missing")
		return 1
	}
	families["rwlock-read-again"] = func() int {
		c := &cache{entries: map[string]int{"one": 1}}
		inside := make(chan struct{})
		go c.sum(func() { close(inside); settle(); settle() })
		<-inside
		go c.fill("two")
		return 2
	}
	families["once-in-itself"] = func() int {
		var once sync.Once
		var build func()
		build = func() { once.Do(build) }
		go build()
		return 1
	}
	families["waitgroup-without-done"] = func() int {
		group := new(sync.WaitGroup)
		group.Add(2)
		go group.Done()
		go group.Wait()
		return 1
	}
	families["waitgroup-before-receive"] = func() int {
		go func() {
			results := make(chan int)
			var group sync.WaitGroup
			for i := range 3 {
				group.Add(1)
				go func() {
					defer group.Done()
					results <- i
				}()
			}
			group.Wait()
			for range 3 {
				<-results
			}
		}()
		return 4
	}
	families["cond-missed-signal"] = func() int {
		cond := sync.NewCond(new(sync.Mutex))
		cond.Signal()
		go func() {
			cond.L.Lock()
			cond.Wait()
			cond.L.Unlock()
		}()
		return 1
	}
	families["call-shared-with-a-panic"] = func() int {
		var done sync.WaitGroup
		done.Add(1)
		go func() {
			defer func() { _ = recover() }()
			panic("before done")
		}()
		for range 4 {
			go done.Wait()
		}
		return 4
	}
}
