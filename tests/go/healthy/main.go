// Programs in which nothing is stuck, one family for each argument: they are busy, and every goroutine that waits will be
// woken in time.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"os/signal"
	"runtime"
	"sort"
	"sync"
	"syscall"
	"time"
)

var families = map[string]func(){}

func main() {
	if len(os.Args) < 2 {
		var names []string
		for name := range families {
			names = append(names, name)
		}
		sort.Strings(names)
		say(map[string]any{"families": names})
		return
	}
	families[os.Args[1]]()
	time.Sleep(50 * time.Millisecond)
	say(map[string]any{"ready": true})
	bufio.NewScanner(os.Stdin).Scan()
}

func say(line map[string]any) {
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}

type node struct {
	wake chan int
	next *node
	junk []byte
}

func init() {
	// Thousands wait on channels whose only references are moved all the time.
	families["moving-pointers"] = func() {
		const waiters = 1500
		slots := make([]*node, waiters)
		var lock sync.Mutex
		for i := range slots {
			n := &node{wake: make(chan int)}
			slots[i] = n
			go func() {
				for range n.wake {
				}
			}()
		}
		go func() {
			for {
				lock.Lock()
				for range 200 {
					i, j := rand.Intn(waiters), rand.Intn(waiters)
					held := slots[i]
					slots[i] = slots[j]
					slots[j] = &node{wake: held.wake, junk: make([]byte, rand.Intn(300))}
				}
				lock.Unlock()
				runtime.Gosched()
			}
		}()
		go func() {
			for {
				lock.Lock()
				n := slots[rand.Intn(waiters)]
				lock.Unlock()
				n.wake <- 1
			}
		}()
	}
	families["requests"] = func() {
		type request struct{ reply chan int }
		requests := make(chan request)
		for range 8 {
			go func() {
				for r := range requests {
					time.Sleep(time.Duration(rand.Intn(300)) * time.Microsecond)
					r.reply <- 1
				}
			}()
		}
		for range 50 {
			go func() {
				for {
					r := request{make(chan int)}
					requests <- r
					<-r.reply
				}
			}()
		}
	}
	families["locks"] = func() {
		type shared struct {
			sync.RWMutex
			sync.WaitGroup
			values map[int]int
		}
		s := &shared{values: map[int]int{}}
		for i := range 40 {
			go func() {
				for {
					if i%8 == 0 {
						s.Lock()
						s.values[rand.Intn(100)]++
						s.Unlock()
					} else {
						s.RLock()
						_ = s.values[i]
						time.Sleep(50 * time.Microsecond)
						s.RUnlock()
					}
				}
			}()
		}
		go func() {
			for {
				var group sync.WaitGroup
				for range 10 {
					group.Add(1)
					go func() { time.Sleep(time.Millisecond); group.Done() }()
				}
				group.Wait()
			}
		}()
	}
	families["conditions"] = func() {
		cond := sync.NewCond(new(sync.Mutex))
		queue := []int{}
		for range 20 {
			go func() {
				for {
					cond.L.Lock()
					for len(queue) == 0 {
						cond.Wait()
					}
					queue = queue[1:]
					cond.L.Unlock()
				}
			}()
		}
		go func() {
			for {
				cond.L.Lock()
				queue = append(queue, 1, 2)
				cond.L.Unlock()
				cond.Broadcast()
				time.Sleep(100 * time.Microsecond)
			}
		}()
	}
	// Only a timer, only a context with a deadline, only a signal, only a finalizer leads to the channel.
	families["woken-from-outside"] = func() {
		for range 30 {
			go func() {
				for {
					done := make(chan int)
					time.AfterFunc(20*time.Millisecond, func() { close(done) })
					<-done
					ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
					<-ctx.Done()
					cancel()
					<-time.After(20 * time.Millisecond)
				}
			}()
		}
		hangup := make(chan os.Signal, 1)
		signal.Notify(hangup, syscall.SIGHUP)
		go func() { <-hangup }()
		for range 10 {
			done := make(chan int)
			guard := &node{junk: make([]byte, 1000)}
			runtime.SetFinalizer(guard, func(*node) { close(done) })
			global = append(global, guard)
			go func() { <-done }()
		}
	}
	families["pipelines"] = func() {
		for range 10 {
			go func() {
				for {
					ctx, cancel := context.WithCancel(context.Background())
					source := make(chan int)
					sink := make(chan int, 4)
					go func() {
						defer close(source)
						for i := 0; ; i++ {
							select {
							case source <- i:
							case <-ctx.Done():
								return
							}
						}
					}()
					go func() {
						defer close(sink)
						for value := range source {
							select {
							case sink <- value * value:
							case <-ctx.Done():
								return
							}
						}
					}()
					for range 100 {
						<-sink
					}
					cancel()
					for range sink {
					}
				}
			}()
		}
	}
	// Channels in places that only the collector's masks tell: maps, interfaces, closures, arrays of structures.
	families["deep-data"] = func() {
		deep = map[string]any{}
		for i := range 200 {
			wake := make(chan int)
			switch i % 4 {
			case 0:
				deep[fmt.Sprint(i)] = &[40]node{39: {wake: wake}}
			case 1:
				deep[fmt.Sprint(i)] = func() { wake <- 1 }
			case 2:
				deep[fmt.Sprint(i)] = map[int]*node{7: {next: &node{next: &node{wake: wake}}}}
			case 3:
				deep[fmt.Sprint(i)] = append(make([]any, 300), wake)
			}
			go func() { <-wake }()
		}
	}
}

var (
	global []*node
	deep   map[string]any
)
