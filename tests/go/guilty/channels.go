package main

import (
	"context"
	"io"
	"sync"
	"time"
)

type request struct{ reply chan int }

type broker struct {
	sync.Mutex
	subscribers map[chan string]bool
}

func (b *broker) publish(text string) {
	b.Lock()
	defer b.Unlock()
	for subscriber := range b.subscribers {
		subscriber <- text
	}
}

func (b *broker) unsubscribe(subscriber chan string) {
	b.Lock()
	defer b.Unlock()
	delete(b.subscribers, subscriber)
}

func init() {
	families["send-after-timeout"] = func() int {
		for range 5 {
			result := make(chan int)
			go func() { settle(); result <- 1 }()
			select {
			case <-result:
			case <-time.After(time.Millisecond):
			}
		}
		time.Sleep(50 * time.Millisecond)
		return 5
	}
	families["receive-without-sender"] = func() int {
		answer := make(chan int)
		go func() { <-answer }()
		return 1
	}
	families["range-without-close"] = func() int {
		jobs := make(chan int)
		for range 4 {
			go func() {
				for range jobs {
				}
			}()
		}
		for job := range 10 {
			jobs <- job
		}
		return 4
	}
	families["nil-receive"] = func() int {
		var none chan int
		go func() { <-none }()
		return 1
	}
	families["nil-send"] = func() int {
		var none chan int
		go func() { none <- 1 }()
		return 1
	}
	families["select-without-cases"] = func() int {
		go func() { select {} }()
		return 1
	}
	families["select-without-way-out"] = func() int {
		left, right, quit := make(chan int), make(chan int), make(chan struct{})
		for range 2 {
			go func() {
				for {
					select {
					case <-left:
					case right <- 1:
					case <-quit:
						return
					}
				}
			}()
		}
		return 2
	}
	families["pipeline-left-early"] = func() int {
		go func() {
			numbers, squares := make(chan int), make(chan int)
			go func() {
				for i := 0; ; i++ {
					numbers <- i
				}
			}()
			go func() {
				for number := range numbers {
					squares <- number * number
				}
			}()
			<-squares
		}()
		return 2
	}
	families["errors-nobody-reads"] = func() int {
		go func() {
			failures := make(chan error)
			for range 3 {
				go func() { failures <- io.EOF }()
			}
			<-failures
		}()
		return 2
	}
	families["lock-held-while-sending"] = func() int {
		b := &broker{subscribers: map[chan string]bool{}}
		subscriber := make(chan string)
		b.subscribers[subscriber] = true
		go func() {
			<-subscriber
			settle()
			b.unsubscribe(subscriber)
		}()
		go func() {
			b.publish("one")
			b.publish("two")
		}()
		time.Sleep(80 * time.Millisecond)
		return 2
	}
	families["each-sends-first"] = func() int {
		there, back := make(chan int), make(chan int)
		go func() { there <- 1; <-back }()
		go func() { back <- 1; <-there }()
		return 2
	}
	families["reply-that-was-lost"] = func() int {
		requests := make(chan request, 1)
		go func() {
			asked := request{make(chan int)}
			requests <- asked
			<-asked.reply
		}()
		<-requests
		return 1
	}
	families["slots-taken-twice"] = func() int {
		slots := make(chan struct{}, 2)
		for range 2 {
			go func() {
				slots <- struct{}{}
				settle()
				slots <- struct{}{}
				<-slots
				<-slots
			}()
		}
		time.Sleep(80 * time.Millisecond)
		return 2
	}
	families["full-both-ways"] = func() int {
		there, back := make(chan int, 1), make(chan int, 1)
		pump := func(out, in chan int) {
			for i := 0; ; i++ {
				out <- i
				out <- i
				<-in
			}
		}
		go pump(there, back)
		go pump(back, there)
		return 2
	}
	families["context-never-cancelled"] = func() int {
		ctx, cancel := context.WithCancel(context.Background())
		_ = cancel
		go func() { <-ctx.Done() }()
		return 1
	}
	families["pipe-without-reader"] = func() int {
		reader, writer := io.Pipe()
		_ = reader
		go func() { _, _ = writer.Write([]byte("text")) }()
		return 1
	}
	families["workers-without-work"] = func() int {
		type pool struct {
			jobs chan func()
			quit chan struct{}
		}
		p := &pool{make(chan func()), make(chan struct{})}
		for range 8 {
			go func() {
				for {
					select {
					case job := <-p.jobs:
						job()
					case <-p.quit:
						return
					}
				}
			}()
		}
		return 8
	}
	families["merge-with-one-open"] = func() int {
		go func() {
			merged := make(chan int)
			var open sync.WaitGroup
			for i := range 3 {
				source := make(chan int, 1)
				source <- i
				if i > 0 {
					close(source)
				}
				open.Add(1)
				go func() {
					defer open.Done()
					for value := range source {
						merged <- value
					}
				}()
			}
			go func() { open.Wait(); close(merged) }()
			for range merged {
			}
		}()
		return 3
	}
}
