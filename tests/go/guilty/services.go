package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"gordian.example/fixtures/memdb"
)

// A group of goroutines of which the first error counts, as golang.org/x/sync/errgroup has it.
type group struct {
	sync.WaitGroup
	slots chan struct{}
	once  sync.Once
	err   error
}

func (g *group) start(work func() error) {
	if g.slots != nil {
		g.slots <- struct{}{}
	}
	g.Add(1)
	go func() {
		defer g.done()
		if err := work(); err != nil {
			g.once.Do(func() { g.err = err })
		}
	}()
}

func (g *group) done() {
	if g.slots != nil {
		<-g.slots
	}
	g.Done()
}

func (g *group) wait() error {
	g.Wait()
	return g.err
}

// One flight for all who ask for the same.
type flight struct {
	sync.Mutex
	calls map[string]*call
}

type call struct {
	done  sync.WaitGroup
	value int
}

func (f *flight) do(key string, work func() int) int {
	f.Lock()
	if known, ok := f.calls[key]; ok {
		f.Unlock()
		known.done.Wait()
		return known.value
	}
	started := &call{}
	started.done.Add(1)
	f.calls[key] = started
	f.Unlock()
	started.value = work()
	started.done.Done()
	return started.value
}

func init() {
	families["handler-without-context"] = func() int {
		const requests = 6
		server := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, _ *http.Request) {
			result := make(chan string)
			go func() { settle(); result <- "late" }()
			select {
			case text := <-result:
				fmt.Fprint(answer, text)
			case <-time.After(time.Millisecond):
				answer.WriteHeader(http.StatusGatewayTimeout)
			}
		}))
		for range requests {
			if answer, err := http.Get(server.URL); err == nil {
				answer.Body.Close()
			}
		}
		time.Sleep(80 * time.Millisecond)
		http.DefaultClient.CloseIdleConnections()
		server.Close()
		return requests
	}
	families["equal-requests"] = func() int {
		const requests = 1000
		for range requests {
			result := make(chan int)
			go func() { result <- 1 }()
		}
		return requests
	}
	families["pool-exhausted"] = func() int {
		db := memdb.Open(2, 0)
		for range 2 {
			go func() {
				// A query inside of another, each with a connection of its own.
				rows, err := db.Query("outer")
				if err != nil {
					panic(err)
				}
				defer rows.Close()
				settle()
				inner, err := db.Query("inner")
				if err != nil {
					panic(err)
				}
				inner.Close()
			}()
		}
		time.Sleep(100 * time.Millisecond)
		// And the goroutine of the pool that opens connections.
		return 3
	}
	families["rows-never-closed"] = func() int {
		go func() {
			db := memdb.Open(1, 0)
			rows, err := db.Query("kept open")
			if err != nil {
				panic(err)
			}
			_, _ = db.Exec("next")
			rows.Close()
		}()
		return 2
	}
	families["group-with-a-limit"] = func() int {
		go func() {
			results := make(chan int)
			g := &group{slots: make(chan struct{}, 2)}
			for i := range 4 {
				g.start(func() error { results <- i; return nil })
			}
			go func() {
				for range results {
				}
			}()
			_ = g.wait()
		}()
		return 3
	}
	families["group-that-waits-inside"] = func() int {
		g := &group{}
		g.start(func() error { return g.wait() })
		return 1
	}
	families["first-of-many"] = func() int {
		go func() {
			answers := make(chan int)
			for i := range 5 {
				go func() { answers <- i }()
			}
			<-answers
		}()
		return 4
	}
	families["slot-lost-on-error"] = func() int {
		slots := make(chan struct{}, 1)
		work := func(fail bool) error {
			slots <- struct{}{}
			if fail {
				return errors.New("without giving the slot back")
			}
			<-slots
			return nil
		}
		_ = work(true)
		for range 3 {
			go func() { _ = work(false) }()
		}
		return 3
	}
	families["context-without-cancel"] = func() int {
		ctx := context.WithoutCancel(context.Background())
		go func() { <-ctx.Done() }()
		return 1
	}
	families["pipe-without-writer"] = func() int {
		reader, _ := io.Pipe()
		go func() { _, _ = io.ReadAll(reader) }()
		return 1
	}
	families["both-ends-write"] = func() int {
		there, back := net.Pipe()
		go func() { _, _ = there.Write([]byte("one")); _, _ = there.Read(make([]byte, 1)) }()
		go func() { _, _ = back.Write([]byte("two")); _, _ = back.Read(make([]byte, 1)) }()
		return 2
	}
	families["once-behind-a-lock"] = func() int {
		var once sync.Once
		c := &counter{}
		go func() { once.Do(func() { settle(); c.add(5) }) }()
		go func() {
			c.Lock()
			defer c.Unlock()
			settle()
			once.Do(func() {})
		}()
		time.Sleep(100 * time.Millisecond)
		return 2
	}
	families["reader-that-stays"] = func() int {
		c := &cache{entries: map[string]int{"one": 1}}
		more := make(chan int)
		go c.sum(func() { <-more })
		settle()
		go c.fill("two")
		settle()
		go c.get("one")
		return 3
	}
	families["one-flight-that-never-lands"] = func() int {
		f := &flight{calls: map[string]*call{}}
		silent := make(chan int)
		for range 4 {
			go f.do("key", func() int { return <-silent })
		}
		return 4
	}
	families["lock-handed-over"] = func() int {
		c := &counter{}
		c.Lock()
		handed := make(chan *counter, 1)
		handed <- c
		// Who was to unlock it reads something else first.
		answers := make(chan int)
		go func() { <-answers; (<-handed).Unlock() }()
		go c.add(5)
		return 2
	}
	families["log-that-fills-up"] = func() int {
		lines := make(chan string, 2)
		for range 5 {
			go func() { lines <- "line" }()
		}
		return 3
	}
	families["group-added-to-late"] = func() int {
		done := make(chan struct{})
		var group sync.WaitGroup
		group.Add(1)
		go func() { group.Wait(); close(done) }()
		go func() { <-done; group.Done() }()
		return 2
	}
}
