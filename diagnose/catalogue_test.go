package diagnose

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// chapter is a part of docs/troubleshooting.md: what somebody sees, and the cases
// that it may be, each a golden case with a title of its own.
type chapter struct {
	title, text string
	entries     [][2]string // case, title
}

var catalogue = []chapter{
	{"It does not start", "`culvert up` ends at once with one of these, and the service manager's log has it.", [][2]string{
		{"no-tun", "There is no TUN device"}, {"no-capability", "The process may not make a device"}, {"port-taken", "Another IKE daemon has the port"},
		{"port-denied", "The process may not open the port"}, {"no-such-local", "The address to listen on is the NAT's"},
	}},
	{"Nothing comes back", "The peer is `connecting`, again and again.", [][2]string{
		{"no-answer", "No answer at all: UDP 500"}, {"no-answer-natt", "An answer on UDP 500, none on UDP 4500"}, {"unfinished", "The same, seen by the side that is called"}, {"no-answer-both-nat", "Both sides are behind NAT"}, {"no-address", "The name does not resolve"}, {"no-path", "This machine has no way there"},
	}},
	{"Refused: who is who", "Each side knows its own half. The side that was called sees what the other one said it is; the side that called is told AUTHENTICATION_FAILED and nothing else.", [][2]string{
		{"identity-private-address", "A private address as identity, seen by the side that is called"}, {"refused-private", "The same, seen by the side that calls"},
		{"responder-private-address", "The side that is called says a private address"}, {"identity-address-for-name", "An address where a name is expected"}, {"responder-name", "A name where an address is expected"},
		{"identity-type-key-id", "The right words with another type"}, {"identity-at-doubled", "An `@` too many or too few"}, {"identity-case", "Upper and lower case"},
		{"identity-other-name", "Another name"}, {"identity-not-ours", "The peer wants somebody else than us"}, {"refused", "Refused, and nobody says why"}, {"refused-for-now", "Refused with another error"}, {"wrong-key", "Another key"},
	}},
	{"Refused: algorithms", "", [][2]string{
		{"proposal-group", "Nothing in common for IKE: a key-exchange group"}, {"proposal-azure", "Azure's default policy"}, {"proposal-esp", "Nothing in common for ESP"},
		{"proposal-refused", "The peer takes nothing of what is offered"}, {"pfs", "Perfect forward secrecy differs, seen by the side that refuses"}, {"pfs-refused", "The same, seen by the side that asks"},
		{"post-quantum", "A post-quantum key exchange is required"}, {"ppk-required", "A post-quantum pre-shared key is required"},
	}},
	{"Refused: traffic and addresses", "The connection is up, a tunnel is not.", [][2]string{
		{"selectors-remote", "The networks of the two sides differ"}, {"selectors-swapped", "One side is the wrong way round"}, {"selectors-refused", "The peer accepts no part of the networks"},
		{"single-pair", "A peer that takes one pair of networks (AWS)"}, {"same-networks", "Two peers with the same network"}, {"duplicate", "The peer is connected already"},
		{"address-none-left", "No virtual address is left"}, {"address-not-asked", "The peer asks for no virtual address"}, {"address-none", "The peer assigns no virtual address"}, {"address-required", "The peer wants to be asked for an address"},
	}},
	{"It is up, and something does not pass", "", [][2]string{
		{"esp-one-way", "Packets leave, none returns"}, {"nothing-sent", "Packets come in, none leaves"}, {"esp-dropped", "Something returns, and is dropped"},
		{"narrowed", "The tunnel is up for less than is configured"}, {"shared-network", "The other side's network is here too"},
		{"dropped-no-tunnel", "Packets without a tunnel"}, {"dropped-selectors", "The peer sends what was not agreed on"}, {"mtu-black-hole", "Pings pass, TCP hangs: a path MTU black hole"}, {"dropped-too-big", "Packets that are too big"}, {"dropped-path-mtu", "The path takes less than was thought"},
		{"dropped-authentication", "A wrong checksum"}, {"dropped-firewall", "This machine's own firewall"},
	}},
	{"It does not stay up", "", [][2]string{
		{"dead", "The peer does not answer any more"}, {"deleted-by-peer", "The peer ended it"}, {"expired", "The lifetime is over"}, {"rekey-storm", "New keys all the time"}, {"flapping", "The peer comes again and again"}, {"same-identity-twice", "Two devices with one identity"},
		{"slept", "The machine sleeps"}, {"clock-forward", "The clock was set"}, {"clock-back", "The clock was set back"},
	}},
}

const troubleshooting = `# Troubleshooting

<!-- Made of the diagnoses' golden cases: go test ./diagnose -update -->

Ask ` + "`culvert explain`" + ` on both sides. It says what happened, why, and which line of which file to change; the log and ` + "`culvert status`" + ` have the same text. This is
all that it can say, by what you see, with the names and addresses of examples. The word in brackets is the code that scripts get
(` + "`culvert explain --json`" + `, ` + "`diagnosis`" + ` in the log).

On the wire a peer is told no more than the bare error that the RFCs ask for: whoever knocks learns nothing. So each side can only explain its own half.
Records of the two sides are matched by SPI (` + "`spi_in`" + ` of the one is ` + "`spi_out`" + ` of the other) and not by time: each log has the time of its own machine's clock.

Beside these, ` + "`explain`" + ` says where nothing is wrong what is going on: ` + "`connecting`" + `, ` + "`waiting`" + ` for a peer that calls, ` + "`down`" + ` between two attempts, ` + "`disconnected`" + ` by the operator, ` + "`draining`" + ` likewise,
` + "`tunnel_down`" + ` where a connection is up without one of its tunnels.
`

func renderCatalogue() string {
	var b strings.Builder
	b.WriteString(troubleshooting)
	for _, c := range catalogue {
		fmt.Fprintf(&b, "\n## %s\n", c.title)
		if c.text != "" {
			fmt.Fprintf(&b, "\n%s\n", c.text)
		}
		for _, e := range c.entries {
			r := cases[e[0]].Report()
			fmt.Fprintf(&b, "\n### %s [%s]\n\n> %s\n", e[1], r.Code, r.Detail)
		}
	}
	b.WriteString("\n## What is counted\n\nEvery packet that does not go its way is counted by name (`culvert status`, and the metrics). Those with a number are explained as a trouble when there are so many\nin a minute; the others are usual.\n\n| counter | what | from | |\n| --- | --- | --- | --- |\n")
	for _, name := range slices.Sorted(maps.Keys(losses)) {
		l, from := losses[name], ""
		if l.from > 0 {
			from = fmt.Sprint(l.from)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, l.what, from, l.why)
	}
	b.WriteString("\nThose of a UDP socket (`receive_`, `send_`, `segmentation_`) have the port in front: `udp4500_send_denied`.\n")
	return b.String()
}

// TestTroubleshooting: docs/troubleshooting.md is the catalogue of what can be
// said, no more and no less.
func TestTroubleshooting(t *testing.T) {
	shown := map[string]bool{}
	for _, c := range catalogue {
		for _, e := range c.entries {
			if cases[e[0]] == nil {
				t.Fatalf("%s is no case", e[0])
			}
			shown[cases[e[0]].Report().Code] = true
		}
	}
	for name, f := range cases {
		if code := f.Report().Code; !shown[code] && name != "dropped-unknown" {
			t.Errorf("%s (%s) is in no chapter", code, name)
		}
	}
	for code := range written(t) {
		if !shown[code] {
			t.Errorf("%s has no case", code)
		}
	}
	file := filepath.Join("..", "docs", "troubleshooting.md")
	if *update {
		if err := os.WriteFile(file, []byte(renderCatalogue()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != renderCatalogue() {
		t.Errorf("%s is not current: go test ./diagnose -update", file)
	}
}

// written are the codes that the package's source has.
func written(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]bool{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?:compose\(|^\t\{)"([a-z_]+)", *(?:[a-z]|true|false)`).FindAllStringSubmatch(string(text), -1) {
			codes[m[1]] = !strings.HasSuffix(f, "_test.go")
		}
	}
	delete(codes, "dropped_") // with a counter behind it
	delete(codes, "no_start") // whose error is unknown, and is not explained
	return codes
}
