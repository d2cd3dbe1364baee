package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"culvert/api"
	"culvert/gateway"
	"culvert/pcapng"
)

// capture streams pcapng until the reader goes.
func (d *daemon) capture(r *http.Request, w io.Writer) error {
	q := r.URL.Query()
	opts := gateway.CaptureOptions{Peer: q.Get("peer"), Keys: q.Get("keys") == "true"}
	if text := q.Get("packets"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return &api.Error{Status: http.StatusBadRequest, Message: fmt.Sprintf("the request makes no sense: %q packets", text)}
		}
		opts.Packets = n
	}
	if err := d.Capture(r.Context(), w, opts); err != nil {
		return crossing(err)
	}
	return nil
}

type captureOptions struct {
	door
	file string
	gateway.CaptureOptions
	duration time.Duration
}

func captureCommand() *cobra.Command {
	var o captureOptions
	cmd := o.socketFlag(&cobra.Command{
		Use:   "capture",
		Short: "record packets outside and inside of ESP, for Wireshark",
		Long: `Writes what a running gateway sends and receives into a pcapng file, until Ctrl-C
or as long as it is told to: the interface "outer" has IKE and ESP in UDP, with
headers as the path has them, "inner" has the packets inside of ESP, in the clear.
The gateway does not slow down for it: what comes too fast is left out, and the
file's interface statistics say how much.

With --with-keys the file holds the keys of its SAs as comments, and Wireshark's
tables esp_sa and ikev2_decryption_table are written into FILE.keys beside it:
pcapng has no block of secrets for IPsec. Copied into a Wireshark profile they
decrypt the outer packets. Whoever has them reads all traffic of these SAs, also
what was recorded elsewhere. The log says that it was done.`,
		Example: `  sudo culvert capture -o office.pcapng --peer office --duration 30s
  sudo culvert capture -o - | wireshark -k -i -
  sudo culvert capture -o office.pcapng --with-keys --packets 1000`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.file == "" || o.Keys && o.file == "-" {
				return usageError(fmt.Errorf("capture takes -o FILE, or without --with-keys -o - (see '%s --help')", cmd.CommandPath()))
			}
			if o.Packets < 0 || o.duration < 0 {
				return usageError(errors.New("--packets and --duration take 0 or more"))
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			if o.duration > 0 {
				var end context.CancelFunc
				ctx, end = context.WithTimeout(ctx, o.duration)
				defer end()
			}
			n, err := o.record(ctx, cmd.OutOrStdout())
			if err != nil {
				return o.failed(cmd, err)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%d packets in %s\n", n, o.file)
			return nil
		},
	})
	f := cmd.Flags()
	f.StringVarP(&o.file, "output", "o", "", "the `file`; - is standard output")
	f.StringVar(&o.Peer, "peer", "", "only ESP of this peer, and IKE of its address")
	f.IntVar(&o.Packets, "packets", 0, "end after so many; 0 is never")
	f.DurationVar(&o.duration, "duration", 0, "end after that `time`; 0 is never")
	f.BoolVar(&o.Keys, "with-keys", false, "add the keys: whoever reads the file reads the traffic")
	return cmd
}

func (o *captureOptions) record(ctx context.Context, stdout io.Writer) (packets int, err error) {
	q := url.Values{"peer": {o.Peer}, "packets": {strconv.Itoa(o.Packets)}, "keys": {strconv.FormatBool(o.Keys)}}
	in, err := api.Open(ctx, o.socket, "/v1/capture?"+q.Encode())
	if err != nil {
		return 0, err
	}
	defer func() { _ = in.Close() }()
	out := &recording{w: stdout, tables: o.file + ".keys"}
	if o.file != "-" {
		f, err := os.OpenFile(o.file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		out.w = f
	}
	err = out.copy(bufio.NewReader(in))
	if ctx.Err() != nil {
		err = nil
	}
	return out.packets, err
}

// recording counts packets, and puts the rows of keys in comments into tables.
type recording struct {
	w       io.Writer
	tables  string
	packets int
}

func (r *recording) copy(in io.Reader) error {
	for {
		block, err := pcapng.Read(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, _, ok := block.Packet(); ok {
			r.packets++
		}
		for _, comment := range block.Comments() {
			if err := r.row(comment); err != nil {
				return err
			}
		}
		if _, err := r.w.Write(block); err != nil {
			return err
		}
	}
}

// row adds one to the table that it names.
func (r *recording) row(comment string) error {
	table, row, _ := strings.Cut(comment, " ")
	if table != "esp_sa" && table != "ikev2_decryption_table" {
		return nil
	}
	if err := os.MkdirAll(r.tables, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(r.tables, table), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, row)
	return errors.Join(err, f.Close())
}
