package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// grace is how long a process has between being asked and being made to end.
const grace = 3 * time.Second

// Process is a program run inside a host. It leads a process group, which ends
// with it: when it exits, on Stop, when its context ends, when the lab closes,
// and (the program alone, by the kernel) when this process dies.
type Process struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Dir            string
	Env            []string // "KEY=value", added to this process's environment
	Mounts         []Mount  // if any, the program gets a mount namespace of its own

	host *Host
	ctx  context.Context
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended or could not start
	err  error         // why; to be read after done

	mu       sync.Mutex
	started  bool
	alive    bool // its process ID is still its own
	stopping bool
}

// Mount puts a file or directory over another, for one process and its children.
type Mount struct {
	Source string // empty for an empty tmpfs
	Target string
}

// Command prepares a program to run inside the host. When ctx ends its process
// group is asked to end by SIGTERM, and made to 3 s later.
func (h *Host) Command(ctx context.Context, name string, args ...string) *Process {
	return &Process{host: h, ctx: ctx, cmd: exec.Command(name, args...), done: make(chan struct{})}
}

// Start starts the program, once. Wait or Stop need not follow: Lab.Close does.
func (p *Process) Start() error {
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = p.Stdin, p.Stdout, p.Stderr
	p.cmd.Dir = p.Dir
	p.cmd.Env = append(os.Environ(), p.Env...)
	p.cmd.WaitDelay = time.Second // for pipes that a stray grandchild holds open
	err := p.adopt()
	if err == nil {
		err = p.launch()
	}
	if err != nil {
		return fmt.Errorf("lab: run %s on %s: %w", p.cmd.Path, p.host.Name, err)
	}
	return nil
}

// adopt makes the lab answerable for the process.
func (p *Process) adopt() error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.host.lab.adopt(p); err != nil {
		return err
	}
	p.started = true
	return nil
}

// launch starts the program from a thread that stays until it has ended: a
// thread that dies takes with it the children that asked for a death signal.
func (p *Process) launch() error {
	launched := make(chan error, 1)
	go onThread(func() error {
		defer close(p.done)
		defer p.host.lab.disown(p)
		p.err = p.exec()
		launched <- p.err
		if p.err == nil {
			p.err = p.await()
		}
		return p.err
	})
	return <-launched
}

// exec starts the program on the calling thread, which it moves.
func (p *Process) exec() error {
	if err := p.host.ns.enterThread(); err != nil {
		return err
	}
	if err := privateMounts(p.Mounts); err != nil {
		return err
	}
	p.cmd.SysProcAttr = processGroup()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping {
		return errClosed
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.alive = true
	return nil
}

// await returns when the program has ended and its group is gone.
func (p *Process) await() error {
	release := context.AfterFunc(p.ctx, p.terminate)
	defer release()
	awaitExit(p.cmd.Process.Pid)
	// Not waited for yet, it keeps its process ID from being given to another.
	p.signal(syscall.SIGKILL)
	p.mu.Lock()
	p.alive = false
	p.mu.Unlock()
	return p.cmd.Wait()
}

// signal sends s to the process group, unless it has ended.
func (p *Process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.alive {
		syscall.Kill(-p.cmd.Process.Pid, s)
	}
}

// terminate asks the program to end, insists after the grace period, and returns
// when it has ended.
func (p *Process) terminate() {
	p.mu.Lock()
	p.stopping = true
	p.mu.Unlock()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(grace):
		p.signal(syscall.SIGKILL)
		<-p.done
	}
}

// Signal sends a signal to the program's process group.
func (p *Process) Signal(s syscall.Signal) { p.signal(s) }

// Pid returns the process ID of a started program.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for a started program to end. A non-zero exit is an *exec.ExitError.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Stop ends the program, if it was started, and returns what Wait does.
func (p *Process) Stop() error {
	p.mu.Lock()
	started := p.started
	p.mu.Unlock()
	if !started {
		return nil
	}
	p.terminate()
	return p.err
}

// halt is Stop for the lab, to which a program's exit code says nothing.
func (p *Process) halt() error {
	p.Stop()
	return nil
}

// Run starts the program and waits for it.
func (p *Process) Run() error {
	if err := p.Start(); err != nil {
		return err
	}
	return p.Wait()
}

// Output runs the program and returns what it wrote to its standard output and
// error, mixed.
func (p *Process) Output() (string, error) {
	var out bytes.Buffer
	p.Stdout, p.Stderr = &out, &out
	err := p.Run()
	return out.String(), err
}
