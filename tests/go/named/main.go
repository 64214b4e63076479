// Goroutines that have labels, that wait at channels with room, and of which there are ever more.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime/pprof"
	"time"
)

var kept []chan int

func receives(from chan int) { <-from }
func sends(to chan int)      { to <- 1 }
func leaks(wake chan int)    { <-wake }
func ends(after time.Duration) {
	time.Sleep(after)
}

// A server that forgets one goroutine of each request, and not the others.
func serves() {
	for range time.Tick(20 * time.Millisecond) {
		wake := make(chan int)
		kept = append(kept, wake)
		go leaks(wake)
		go ends(30 * time.Millisecond)
	}
}

func main() {
	empty, full := make(chan int, 8), make(chan int, 3)
	for i := range cap(full) {
		full <- i
	}
	pprof.Do(context.Background(), pprof.Labels("request", "/orders/42", "tenant", "north west"), func(context.Context) {
		go receives(empty)
	})
	many := make([]string, 0, 40)
	for i := range cap(many) / 2 {
		many = append(many, fmt.Sprintf("name%02d", i), fmt.Sprint(i))
	}
	pprof.Do(context.Background(), pprof.Labels(many...), func(context.Context) {
		go sends(full)
	})
	go serves()
	time.Sleep(50 * time.Millisecond)
	fmt.Println(`{"ready":true}`)
	bufio.NewScanner(os.Stdin).Scan()
	fmt.Println(empty, full, kept)
}
