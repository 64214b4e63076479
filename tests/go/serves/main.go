// A small HTTP API, for measuring what gordian costs it: each request takes a lock, passes a channel to a worker and waits
// for the answer.
//
// To be found: nothing.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
)

type api struct {
	sync.Mutex
	visits map[string]int
	work   chan job
}

type job struct {
	seed uint64
	done chan uint64
}

func (a *api) visit(path string) int {
	a.Lock()
	defer a.Unlock()
	a.visits[path]++
	return a.visits[path]
}

func (a *api) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	visit := a.visit(request.URL.Path)
	done := make(chan uint64)
	select {
	case a.work <- job{uint64(visit), done}:
	case <-request.Context().Done():
		return
	}
	_ = json.NewEncoder(answer).Encode(map[string]any{"visit": visit, "score": <-done})
}

func (a *api) worker() {
	for j := range a.work {
		hash := j.seed
		for round := range uint64(2000) {
			hash = (hash ^ round) * 0x100000001b3
		}
		j.done <- hash
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	a := &api{visits: map[string]int{}, work: make(chan job, 64)}
	for range 2 {
		go a.worker()
	}
	fmt.Printf("{\"port\": %d}\n", listener.Addr().(*net.TCPAddr).Port)
	panic(http.Serve(listener, a))
}
