package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// The exit codes beside 0.
const (
	exitFailure = 1 // something went wrong while running
	exitUsage   = 2 // a wrong configuration or wrong usage
)

// exitError is an error and the exit code that it ends the program with. With
// no err there is nothing left to print.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func failure(err error) error    { return &exitError{exitFailure, err} }
func usageError(err error) error { return &exitError{exitUsage, err} }

// untilSignal is a context that is over when somebody wants the command to end.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}
