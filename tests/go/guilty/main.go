// Programs with goroutines that can never run again, one family for each argument. The first line of output says how many
// there are; a line of input makes the program say what Go's own leak profile finds.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"sort"
	"time"
)

// A family makes its goroutines stuck and returns how many.
var families = map[string]func() int{}

// Families of which gordian can only say what is likely.
var likely = map[string]bool{}

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
	// A server that goes on: what is stuck is only a part of the program.
	go func() {
		for range time.Tick(5 * time.Millisecond) {
		}
	}()
	stuck := families[os.Args[1]]()
	time.Sleep(50 * time.Millisecond)
	runtime.GC()
	say(map[string]any{"stuck": stuck, "likely": likely[os.Args[1]]})
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		say(map[string]any{"leaked": leaked()})
	}
}

func say(line map[string]any) {
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}

// What Go's own profile finds; -1 where this Go has none.
func leaked() int {
	profile := pprof.Lookup("goroutineleak")
	if profile == nil {
		return -1
	}
	// Only writing it makes the runtime look.
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		panic(err)
	}
	defer null.Close()
	if err := profile.WriteTo(null, 0); err != nil {
		panic(err)
	}
	return profile.Count()
}

// Gives what was started time to come to where it stays.
func settle() { time.Sleep(30 * time.Millisecond) }
