// A goroutine in every kind of wait.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

type shared struct {
	lock  sync.Mutex
	table sync.RWMutex
	group sync.WaitGroup
	cond  *sync.Cond
}

func (s *shared) locks()  { s.lock.Lock() }
func (s *shared) reads()  { s.table.RLock() }
func (s *shared) writes() { s.table.Lock() }
func (s *shared) awaits() { s.group.Wait() }
func (s *shared) condition() {
	s.cond.L.Lock()
	s.cond.Wait()
}

func receives(from chan int) int { return <-from }
func sends(to chan int)          { to <- 1 }

func selects(ctx context.Context, in, out chan int) {
	select {
	case <-in:
	case out <- 1:
	case <-ctx.Done():
	}
}

func deep(depth int, then func()) {
	if depth == 0 {
		then()
		return
	}
	deep(depth-1, then)
}

type writer interface{ write() }

func (s *shared) write() { deep(3, func() { sends(make(chan int)) }) }

func main() {
	s := &shared{}
	s.cond = sync.NewCond(new(sync.Mutex))
	s.lock.Lock()
	s.table.Lock()
	s.group.Add(1)
	go s.locks()
	go s.reads()
	go s.writes()
	go s.awaits()
	go s.condition()
	go receives(make(chan int))
	go sends(make(chan int))
	go sends(nil)
	go receives(nil)
	go selects(context.Background(), make(chan int), make(chan int))
	go func() { select {} }()
	go time.Sleep(time.Hour)
	go deep(40, func() { receives(make(chan int)) })
	var w writer = s
	go w.write()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() { _, _ = listener.Accept() }()
	time.Sleep(100 * time.Millisecond)
	fmt.Println(`{"ready":true}`)
	bufio.NewScanner(os.Stdin).Scan()
	fmt.Println(s, listener)
}
