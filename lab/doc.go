// Package lab builds networks out of namespaces on one Linux machine, for the
// demo, the tests and the benchmarks: hosts, links, NATs, and what is run and
// measured in them. It needs no helper program, touches nothing outside the
// namespaces that it made, and any number of labs stand side by side.
//
// Situation builds the network that the project is about, a cloud VM behind a
// 1:1 NAT and a gateway with a public address:
//
//	     LAN A                              the internet                      LAN B
//	  10.103.0.0/24                                                       10.104.0.0/24
//
//	hosta ----------- gwa -------------------- nat -------------------- gwb ----------- hostb
//	eth0           lan   wan                out   in                 wan   lan           eth0
//	10.103.0.10      |   203.0.113.1          |   172.16.0.254         |   10.104.0.1    10.104.0.10
//	        10.103.0.1             203.0.113.254            172.16.0.1
//
//	                              172.16.0.1 <-> 192.0.2.10
//	                              (nothing of 10.0.0.0/8 is forwarded)
//
// The default route of the two hosts is their gateway, that of the two gateways
// is the NAT. gwa sees gwb as 192.0.2.10, which no interface of gwb has.
//
// In a host, Command runs a program, Do runs a function, Ping sends echoes, Capture
// writes pcapng, StrongSwan starts a peer; TCP measures between two. Close ends and
// removes all of it. CheckRights says whether this process may do so, and
// ReexecInUserNamespace gets the rights where only a user namespace has them:
//
//	Direct         New and Situation work in this process
//	UserNamespace  they work in the program that ReexecInUserNamespace starts
//	NoRights       nowhere; Rights.Reason says why
//
// A host is a network namespace. Where the mount table may be written it is
// bound under /run/netns, where `ip netns` finds it; in a user namespace /run is
// covered with a private tmpfs first; where neither works an open descriptor
// keeps the namespace alive. The descriptor carries a lock (flock) for as long
// as the process lives, which is how Sweep tells leftovers of a crash from the
// lab of a running neighbour.
package lab
