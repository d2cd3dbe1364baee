// Package ikev2 is an IKEv2 engine without I/O (RFC 7296): datagrams,
// commands and time go in, an ordered list of outputs comes out, and the same
// inputs give the same outputs.
//
//	HandleDatagram(now, d)  Command(now, c)  HandleTimeout(now)
//	            \                 |                 /
//	             +------------ Engine -------------+
//	                              |
//	                           Poll()
//	   Transmit  InstallInbound  InstallOutbound  RemoveOutbound
//	   RemoveInbound  MovePeer  AssignAddresses  RemoveAddresses
//	   IKEKeys  PathMTU  Event
//
// An IKE SA lives through these states; setState is the only way from one to
// another:
//
//	initiator             responder
//	  init                    |              IKE_SA_INIT
//	    |  answer that works  |  request that works
//	    v                     v
//	  auth ----------------- auth            IKE_INTERMEDIATE, IKE_AUTH
//	    |  both authenticated |      \  refused
//	    v                     v       v
//	    up ------------------ up    linger   answers a retransmission, no more
//	    |  Delete out         |  Delete in    |
//	    v                     v               |
//	 closing               linger             |
//	    \_____________________|_______________/
//	                          v
//	                         gone
//
// A rekey makes its successor out of an IKE SA that is up. Where both sides
// begin at once there are two, until the nonces have decided:
//
//	heir ---- takes over: children, queue, peer ----> up
//	  \_ redundant: the peer's is replaced, ours is closing
//
//	up ------ a successor has taken over -----------> replaced  waits for the peer's Delete
//	                                                  closing   ours is out
//
// And a child SA (rekeychild.go draws the exchange):
//
//	new ----> held ----> up ----> closing ----> late ----> gone
//	           |  \______________^              takes what was on its way
//	           |    redundant     our Delete is out
//	        receives only, until the peer is known to have it
//
// A message passes header, cached answer, decryption, format (package wire),
// legality (wire.Check) and only then the tasks of its exchange; a failure at
// any stage is counted and leaves the SA as it was. A task is one elementary
// operation, and a file:
//
//	init.go       IKE_SA_INIT, groups               RFC 7296 1.2, 2.6, 2.7
//	natd.go       NAT detection                     RFC 7296 2.23
//	auth.go       identities, pre-shared keys       RFC 7296 2.15, 2.21.2
//	child.go      asking for a child SA             RFC 7296 1.2, 1.3.1
//	childanswer.go  answering that                  RFC 7296 1.2, 1.3.1, 3.3.6
//	childsa.go    a child SA's keys and life        RFC 7296 2.8, 2.17
//	address.go    configuration payload             RFC 7296 2.19, 3.15, RFC 8598
//	lease.go      who has which address of a pool
//	wish.go       which child SAs to ask for        RFC 7296 2.9, single pairs, additional selectors
//	lanes.go      a child SA for each core          RFC 9611
//	trap.go       child SAs wanted by traffic       RFC 7296 2.9, RFC 4301 4.4.1, RFC 6023
//	raise.go      child SAs that the operator wants, or not
//	conflict.go   one peer to one traffic           RFC 4301 4.4.1
//	selector.go   narrowing of selectors            RFC 7296 2.9
//	freshkeys.go  nonces, PFS in CREATE_CHILD_SA    RFC 7296 1.3, 2.17
//	addke.go      ML-KEM in proposals               RFC 9370 2.2.1
//	intermediate.go  key exchanges before IKE_AUTH  RFC 9242, RFC 9370 2.2.2
//	followup.go   key exchanges of a rekey          RFC 9370 2.2.4
//	ppk.go        post-quantum pre-shared keys      RFC 8784
//	rekeychild.go replacing a child SA              RFC 7296 1.3.3, 2.8, 2.25.1
//	rekeyike.go   replacing the IKE SA              RFC 7296 1.3.2, 2.18, 2.25.2
//	lifetimes.go  when SAs are replaced, and end    RFC 7296 2.8
//	delete.go     Delete, failures after the fact   RFC 7296 1.4.1, 2.21
//	liveness.go   dead peers, round trips, keepalives  RFC 7296 2.4, RFC 3948 4
//	exchange.go   windows, retransmission           RFC 7296 2.1-2.3
//	pathmtu.go    the largest packet that arrives   RFC 8899
//	fragment.go   fragments, smaller packets        RFC 7383
//	cookie.go     stateless cookies                 RFC 7296 2.6
//	limits.go     half-open SAs, unprotected replies  RFC 8019 4
//	sa.go         one IKE SA's state
//	path.go       where it goes, roaming            RFC 7296 2.23
//	mobike.go     changing addresses in words       RFC 4555
//	childless.go  an IKE SA without a child         RFC 6023
//	redirect.go   going, and sending, elsewhere     RFC 5685
//	resume.go     tickets, IKE SAs made of them     RFC 5723
//	qcd.go        peers that have forgotten an SA   RFC 6290, RFC 7296 1.5, 2.21.4
//	succession.go an IKE SA made anew, without a gap  RFC 7296 2.8
//	duplicates.go a second IKE SA of one peer       RFC 7296 2.4
//	peer.go       a configured peer: reconnection, duplicates
//	reconfigure.go  another configuration while running
//	identity.go   who is who                        RFC 7296 3.5
//	proposal.go   proposals, and the choice of one  RFC 7296 2.7, 3.3
//	spi.go        inbound ESP SPIs                  RFC 4303 2.1
//	engine.go     what goes in
//	output.go     what comes out
//	event.go      what is told of it
//	config.go     what it is told before
//	timers.go     when it wants to be woken
//	audit.go      what must never be, for tests
package ikev2
