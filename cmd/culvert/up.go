package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"culvert/api"
	"culvert/config"
	"culvert/espcrypto/aesgcm"
	"culvert/gateway"
)

type upOptions struct {
	socket, keyLog, logFormat string
}

func upCommand() *cobra.Command {
	var opts upOptions
	cmd := &cobra.Command{
		Use:   "up FILE",
		Short: "run one gateway in the foreground",
		Long: `Runs the gateway that FILE configures until SIGINT or SIGTERM; then it tells
its peers, and takes down its routes and its device. SIGHUP has it read FILE
again, as 'culvert reload' does.

It needs CAP_NET_ADMIN, /dev/net/tun and UDP ports 500 and 4500. The exit code
is 0 after a signal, 1 when something failed, 2 when FILE is not right.`,
		Example: `  sudo culvert up site.toml
  sudo culvert up --log json vpn.vyos
  sudo culvert up --keylog /root/keys site.toml   # for Wireshark; whoever reads it reads the traffic`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			return up(cmd.Context(), cmd.ErrOrStderr(), args[0], opts)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.socket, "socket", api.DefaultSocket(), "control socket, a `path`, for culvert status and the other commands")
	f.StringVar(&opts.keyLog, "keylog", "", "write Wireshark's tables of IKE and ESP keys into this `directory`")
	f.StringVar(&opts.logFormat, "log", "text", "log in this `form`, text or json, on standard error")
	return cmd
}

func up(ctx context.Context, stderr io.Writer, file string, opts upOptions) error {
	log, err := newLog(stderr, opts.logFormat)
	if err != nil {
		return usageError(err)
	}
	if _, err := aesgcm.Path(); err != nil {
		return usageError(err)
	}
	cfg, err := readConfig(stderr, file)
	if err != nil {
		return err
	}
	warn(log, cfg)
	ctx, stop := untilSignal(ctx)
	defer stop()
	return serve(ctx, log, cfg, opts)
}

// warn logs what there is to say about a configuration that can be used.
func warn(log *slog.Logger, cfg *config.Config) {
	for _, w := range cfg.Warnings {
		log.Warn(oneLine(w), "event", "config_warning")
	}
}

// oneLine is a diagnostic as a log has it.
func oneLine(d config.Diagnostic) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(d.String()), " "), " hint: ", "; ")
}

// serve runs gateway, control socket and signals together.
func serve(ctx context.Context, log *slog.Logger, cfg *config.Config, opts upOptions) error {
	control, err := api.Listen(opts.socket)
	if err != nil {
		return failure(err)
	}
	defer func() { _ = control.Close() }()
	public, err := listenMetrics(cfg)
	if err != nil {
		return failure(err)
	}
	defer func() { _ = public.Close() }()
	page, err := listenPage(log, cfg)
	if err != nil {
		return failure(err)
	}
	defer func() { _ = page.Close() }()
	g, err := gateway.New(cfg, gateway.Options{Log: log, KeyLog: opts.keyLog})
	if err != nil {
		return failure(err)
	}
	log = g.Log() // what is the command's own is among the events too
	d := &daemon{Gateway: g, log: log, file: cfg.File, manager: serviceManager(os.Getenv)}
	d.answer(control)
	d.open(public, page)
	for name, door := range map[string]*api.Server{"control socket": control, "metrics": public, "page": page} {
		go func() {
			if err := door.Serve(); err != nil {
				log.Error(name+": "+err.Error(), "event", "control_failed")
			}
		}()
	}
	defer d.reloadOnHangup()()
	defer d.manager.watch(ctx, g.Answers)()
	if err := g.Run(ctx); err != nil {
		return failure(err)
	}
	return nil
}

// listenMetrics opens the address that the configuration has for Prometheus; nil
// where there is none.
func listenMetrics(cfg *config.Config) (*api.Server, error) {
	if !cfg.Gateway.Metrics.IsValid() {
		return nil, nil
	}
	s, err := api.ListenTCP(cfg.Gateway.Metrics)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return s, nil
}

// listenPage opens the address of the status page; nil where there is none.
func listenPage(log *slog.Logger, cfg *config.Config) (*api.Server, error) {
	if !cfg.Gateway.Page.IsValid() {
		return nil, nil
	}
	s, err := api.ListenPage(cfg.Gateway.Page)
	if err != nil {
		return nil, fmt.Errorf("status page: %w", err)
	}
	log.Info(fmt.Sprintf("status page at http://%v/ for every user of this machine", s.Addr()), "event", "page_up", "address", s.Addr().String())
	return s, nil
}

func newLog(w io.Writer, format string) (*slog.Logger, error) {
	switch format {
	case "text":
		return slog.New(&lineHandler{w: w}), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, nil)), nil
	}
	return nil, errors.New("--log takes text or json")
}
