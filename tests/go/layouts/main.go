// Whatever it does: what counts is the debuginfo that the linker gives it. The network is imported for the poller.
package main

import (
	"fmt"
	"net"
	"sync"
	"time"
)

func main() {
	var once sync.Once
	channel := make(chan int, 1)
	once.Do(func() { channel <- 1 })
	select {
	case <-channel:
	case <-time.After(time.Second):
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	fmt.Println(listener, err)
}
