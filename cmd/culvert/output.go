package main

import (
	"io"
	"os"
	"sync"
)

// output is standard output. What could not be written to it is a failure of the
// command, also of one that does not look.
type output struct {
	*os.File
	mu  sync.Mutex
	err error
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.File.Write(b)
	if err != nil {
		err = failure(err)
		o.mu.Lock()
		o.err = err
		o.mu.Unlock()
	}
	return n, err
}

// WriteString is not to be that of os.File.
func (o *output) WriteString(s string) (int, error) { return o.Write([]byte(s)) }

func (o *output) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// terminal is the file behind an output; nil where there is none.
func terminal(out io.Writer) *os.File {
	switch o := out.(type) {
	case *output:
		return o.File
	case *os.File:
		return o
	}
	return nil
}
