package bench

import (
	"strings"
	"testing"
)

// TestCountSamples reads what perf script says, innermost frame first.
func TestCountSamples(t *testing.T) {
	const script = `
   10 
	          4b1c2d culvert/espcrypto/aesgcm.sealVAES256
	          4b0000 culvert/espcrypto.(*Outbound).Seal

   10 
	          4b0000 culvert/espcrypto.(*Outbound).Seal

   20 
	          4b0000 runtime.memmove

   20 
	ffffffff81000001 csum_partial
	ffffffff81000002 tun_get_user
	ffffffff81000003 do_writev
	ffffffff81000004 do_syscall_64
	ffffffff81000005 entry_SYSCALL_64_after_hwframe
	          4b0000 internal/runtime/syscall.Syscall6

   10 
	ffffffff81000001 tun_do_read
	ffffffff81000003 ksys_read
	ffffffff81000004 do_syscall_64

   10 
	ffffffff81000001 csum_and_copy
	ffffffff81000003 __x64_sys_sendmmsg
	ffffffff81000004 do_syscall_64

   10 
	ffffffff81000001 ip_forward
	ffffffff81000001 net_rx_action
	ffffffff81000003 __x64_sys_sendmmsg
	ffffffff81000004 do_syscall_64

   20 
	ffffffff81000001 ep_poll
	ffffffff81000003 __x64_sys_epoll_pwait

   20 
	ffffffff81000001 handle_softirqs
	ffffffff81000003 asm_sysvec_apic_timer_interrupt
	          4b0000 culvert/tun.sumAVX2
`
	counts, err := countSamples(strings.NewReader(script), []int{10})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][2]float64{}
	for _, c := range counts {
		if c.A+c.B > 0 {
			got[c.Part] = [2]float64{c.A, c.B}
		}
	}
	want := map[string][2]float64{
		parts[0].Part: {1, 0}, parts[4].Part: {1, 0}, parts[6].Part: {0, 1},
		calls[0].Part: {1, 0}, calls[1].Part: {1, 0}, calls[3].Part: {0, 1}, calls[4].Part: {1, 0}, calls[5].Part: {0, 2},
	}
	for part, n := range want {
		if got[part] != n {
			t.Errorf("%s: %v, want %v", part, got[part], n)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%v", got)
	}
	if all := scaled(counts, 1000, 400); all[0].A != 200 || all[6].B != 100 {
		t.Errorf("scaled to %v", all)
	}
	if _, err := countSamples(strings.NewReader("perf: no\n"), nil); err == nil {
		t.Error("taken for samples")
	}
}
