// Command budget says where the processor time of 64 KB goes that pass both
// gateways: one TCP stream through culvert, under perf. It needs root.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"

	"culvert/bench"
)

func main() {
	duration := flag.Duration("duration", 5*time.Second, "how long to move TCP")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := budget(ctx, *duration); err != nil {
		fmt.Fprintln(os.Stderr, "budget:", err)
		stop()
		os.Exit(1)
	}
}

func budget(ctx context.Context, d time.Duration) error {
	if err := bench.Available(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "culvert-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary, err := bench.Build(ctx, dir, bench.CulvertProgram)
	if err != nil {
		return err
	}
	costs, err := bench.Budget(ctx, bench.Culvert(binary, dir), d)
	if err != nil {
		return err
	}
	return print(costs)
}

func print(costs []bench.Cost) error {
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "ns for each %d KB of TCP payload\tout\tin\t\n", bench.Super>>10)
	var user, all bench.Cost
	for _, c := range costs {
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t\n", c.Part, c.A, c.B)
		all.A, all.B = all.A+c.A, all.B+c.B
		if c.User {
			user.A, user.B = user.A+c.A, user.B+c.B
		}
	}
	fmt.Fprintf(t, "in all\t%.0f\t%.0f\t\n", all.A, all.B)
	fmt.Fprintf(t, "of that in user space\t%.0f\t%.0f\t\n", user.A, user.B)
	return t.Flush()
}
