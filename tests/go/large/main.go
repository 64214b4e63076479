// Programs that are large in one way, for measuring: `goroutines N` parks as many, a hundredth of them for good, and
// `heap MB` keeps as much memory in small objects, with a few goroutines that are stuck for good.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"time"
)

type node struct {
	left, right *node
	payload     [2]int
	extra       *[3]int
}

var (
	keep []chan int
	tree *node
)

func worker(wake chan int) {
	for range wake {
	}
}

func stuck() {
	var group sync.WaitGroup
	group.Add(1)
	group.Wait()
}

func goroutines(count int) {
	for i := range count {
		if i%100 == 0 {
			go stuck()
			continue
		}
		wake := make(chan int)
		keep = append(keep, wake)
		go worker(wake)
	}
}

// A tree in which neighbours were not allocated together.
func heap(bytes int) {
	const each = 64
	nodes := make([]*node, bytes/each)
	for i := range nodes {
		nodes[i] = &node{payload: [2]int{i, i}}
		if i%4 == 0 {
			nodes[i].extra = &[3]int{i}
		}
	}
	// A walk over all places by a stride that is coprime to their number.
	at := func(i int) *node { return nodes[i*7919%len(nodes)] }
	for i := range nodes {
		if 2*i+2 < len(nodes) {
			at(i).left, at(i).right = at(2*i+1), at(2*i+2)
		}
	}
	tree = at(0)
	for range 10 {
		go stuck()
	}
}

func main() {
	count, err := strconv.Atoi(os.Args[2])
	if err != nil {
		panic(err)
	}
	switch os.Args[1] {
	case "goroutines":
		goroutines(count)
	case "heap":
		heap(count << 20)
	}
	time.Sleep(time.Second)
	runtime.GC()
	debug.FreeOSMemory()
	fmt.Println(`{"ready": true}`)
	bufio.NewScanner(os.Stdin).Scan()
	runtime.KeepAlive(tree)
}
