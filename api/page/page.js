"use strict";
// Asks the gateway what it does and draws it. All that it is told is text, and
// becomes text: nothing here makes markup of a string.

const every = 2000; // ms from one look to the next
const maxPeers = 50; // that are drawn, those that are not up first
const maxEvents = 200;
const svgNS = "http://www.w3.org/2000/svg";

// el makes an element: its attributes, and what is in it, elements or text.
function el(name, attributes, ...inside) {
  const made = name.startsWith("svg:") ? document.createElementNS(svgNS, name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value !== undefined && value !== null && value !== "") made.setAttribute(key, value);
  }
  made.append(...inside.filter((x) => x !== undefined && x !== null).map((x) => (x instanceof Node ? x : String(x))));
  return made;
}

const at = (selector) => document.querySelector(selector);

function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  const two = (n) => String(n).padStart(2, "0");
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${two(Math.floor(s / 60) % 60)} min`;
  return `${Math.floor(s / 86400)} d ${two(Math.floor(s / 3600) % 24)} h`;
}

function scaled(n, units) {
  let i = 0;
  for (; n >= 1000 && i < units.length - 1; i++) n /= 1000;
  return `${i === 0 || n >= 100 ? Math.round(n) : n.toFixed(1).replace(".0", "")} ${units[i]}`;
}
const rate = (bits) => scaled(bits, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"]);
const bytes = (n) => scaled(n, ["B", "kB", "MB", "GB", "TB"]);
const count = (n) => n.toLocaleString("en-GB").replaceAll(",", "\u202f");
const ms = (n) => (n >= 10 ? n.toFixed(0) : n >= 1 ? n.toFixed(1) : n.toFixed(2)) + " ms";

// ceiling is the next of 1, 2, 5, 10, ... above n.
function ceiling(n) {
  if (!(n > 0)) return 1;
  const ten = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 5, 10].map((m) => m * ten).find((m) => m >= n) || 10 * ten;
}

// points are samples as an SVG path's, from the left edge to the right one.
function points(samples, length, width, y) {
  return samples.map((s, i) => [(width * (i + length - samples.length)) / (length - 1), y(s)]);
}
const path = (ps) => ps.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

const historyLength = 150;

// ratePlot has what comes in above the line and what goes out below it.
function ratePlot(past, peer, interval) {
  const width = 336, height = 120, middle = 58, right = 60;
  const ins = past ? past.bits_in : [], outs = past ? past.bits_out : [];
  const top = ceiling(Math.max(1000, ...ins, ...outs));
  const draw = el("svg:svg", { viewBox: `0 0 ${width + right} ${height}`, role: "img", "aria-label": `${peer.name}: ${rate(peer.bits_in)} in, ${rate(peer.bits_out)} out` });
  for (const [y, label] of [[6, rate(top)], [middle, "0"], [110, rate(top)]]) {
    draw.append(el("svg:line", { class: "grid", x1: 0, x2: width, y1: y, y2: y }), el("svg:text", { x: width + 6, y: y + 4 }, label));
  }
  const area = (samples, direction, kind) => {
    if (samples.length < 2) return;
    const ps = points(samples, historyLength, width, (v) => middle - (direction * 52 * v) / top);
    draw.append(el("svg:path", { class: "fill-" + kind, d: path([[ps[0][0], middle], ...ps, [width, middle]]) + "Z" }), el("svg:path", { class: "line-" + kind, d: path(ps) }));
  };
  area(ins, 1, "in");
  area(outs, -1, "out");
  return el("figure", { class: "rates" },
    el("figcaption", {}, el("span", { class: "in" }, "in ", el("b", {}, rate(peer.bits_in))), el("span", { class: "out" }, "out ", el("b", {}, rate(peer.bits_out))),
      el("span", {}, `last ${Math.round((historyLength * interval) / 60)} min`)), draw);
}

// timePlot joins the round trips that are known.
function timePlot(past, peer) {
  const width = 192, height = 120, right = 53;
  const all = past ? past.round_trip_ms : [];
  const known = all.filter((t) => t > 0);
  const top = ceiling(Math.max(0.1, ...known));
  const draw = el("svg:svg", { viewBox: `0 0 ${width + right} ${height}`, role: "img", "aria-label": `${peer.name}: round trip` });
  for (const [y, label] of [[6, ms(top)], [110, "0"]]) {
    draw.append(el("svg:line", { class: "grid", x1: 0, x2: width, y1: y, y2: y }), el("svg:text", { x: width + 6, y: y + 4 }, label));
  }
  const ps = points(all, historyLength, width, (t) => 110 - (104 * t) / top).filter((_, i) => all[i] > 0);
  if (ps.length > 1) draw.append(el("svg:path", { class: "line-time", d: path(ps) }));
  if (ps.length) draw.append(el("svg:circle", { class: "dot-time", cx: ps.at(-1)[0], cy: ps.at(-1)[1], r: 2.5 }));
  return el("figure", { class: "trips" }, el("figcaption", {}, el("span", {}, "round trip ", el("b", {}, peer.round_trip ? ms(peer.round_trip * 1000) : "not known yet"))), draw);
}

// natPicture is who is behind what, and by which ports they meet.
function natPicture(peer) {
  const width = 456, y = 54, height = 120, end = width - 4;
  const here = peer.nat === "this side" || peer.nat === "both sides", there = peer.nat === "peer side" || peer.nat === "both sides";
  const known = peer.nat !== "unknown";
  const draw = el("svg:svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `NAT: ${peer.nat}` });
  const box = (x, w, title, kind) => draw.append(el("svg:rect", { class: kind || "box", x, y: y - 20, width: w, height: 40, rx: 7 }),
    el("svg:text", { class: kind ? "natword" : "strong", x: x + w / 2, y: y + 4, "text-anchor": "middle" }, title));
  // A long address, of IPv6, goes in a line of its own.
  const below = (x, anchor, text, row) => draw.append(el("svg:text", { class: "mono", x, y: y + 38 + 15 * (text.length > 22 ? row : 0), "text-anchor": anchor }, text));
  const address = (a) => (a && a !== "invalid AddrPort" ? a : "");
  const local = address(peer.local_address), remote = address(peer.remote_address);
  const port = (a) => a.slice(a.lastIndexOf(":") + 1);
  draw.append(el("svg:path", { class: "way", d: `M 112 ${y} H ${width - 112}` }));
  box(4, 108, "this gateway");
  box(end - 108, 108, peer.name.length > 15 ? peer.name.slice(0, 14) + "…" : peer.name);
  if (here) {
    box(146, 40, "NAT", "nat");
    below(166, "middle", "hides us", 0);
  }
  if (there) {
    box(270, 40, "NAT", "nat");
    below(290, "middle", remote, 1);
  }
  below(4, "start", local, 0);
  below(end, "end", there ? "hidden" : remote, 1);
  const words = !remote ? "waits for the peer" : peer.state !== "up" ? `to UDP ${port(remote)}` : `ESP in UDP ${port(local)} ↔ ${port(remote)}`;
  draw.append(el("svg:text", { x: width / 2, y: y - 28, "text-anchor": "middle" }, words));
  const says = { "this side": "We are behind a NAT.", "peer side": "The peer is behind a NAT.", "both sides": "Both sides are behind a NAT.", none: "No NAT on the way." };
  return el("figure", { class: "nat-picture" }, el("figcaption", {}, el("span", {}, known ? says[peer.nat] || peer.nat : "Whether there is a NAT is not known yet.")), draw);
}

function tunnels(peer) {
  const head = el("tr", {}, ...["tunnel", "here", "there", "up"].map((h) => el("th", {}, h)), ...["in", "out"].map((h) => el("th", { class: "num" }, h)), ...["suite", "SPI in / out"].map((h) => el("th", {}, h)));
  const rows = peer.children.map((c) =>
    el("tr", {}, el("td", {}, el("b", {}, c.name)), el("td", { class: "mono" }, c.local.join(", ")), el("td", { class: "mono" }, c.remote.join(", ")), el("td", {}, span(Date.now() - Date.parse(c.since))),
      el("td", { class: "num", title: count(c.packets_in) + " packets" }, bytes(c.bytes_in)), el("td", { class: "num", title: count(c.packets_out) + " packets" }, bytes(c.bytes_out)),
      el("td", { class: "mono" }, c.suite), el("td", { class: "mono" }, `${c.inbound_spi} / ${c.outbound_spi}`)));
  return el("div", { class: "tunnels" }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows)));
}

// prose has what stands between backquotes as code.
const prose = (text) => text.split("`").map((piece, i) => (i % 2 ? el("code", {}, piece) : piece));

// explained is a paragraph whose first sentence is known.
function explained(peer) {
  const why = peer.why || "", text = peer.problem;
  const rest = why && text.toLowerCase().startsWith(why.toLowerCase()) ? text.slice(why.length).replace(/^\.\s*/, "") : text === why ? "" : text;
  return el("div", { class: "why" }, why ? el("b", {}, why.charAt(0).toUpperCase() + why.slice(1) + ".") : undefined, ...prose(rest));
}

function drawPeer(peer, past, interval) {
  const since = peer.since ? `for ${span(Date.now() - Date.parse(peer.since))}` : "";
  const attempt = peer.attempt ? `attempt ${peer.attempt}` : "";
  const card = el("article", { class: peer.state, "data-peer": peer.name },
    el("div", { class: "head" }, el("h3", {}, peer.name), el("span", { class: "pill" }, peer.state), el("span", { class: "since" }, [since, attempt].filter(Boolean).join(", ")),
      el("span", { class: "ids" }, `${peer.local_id} ↔ ${peer.remote_id}`)));
  const up = peer.state === "up";
  const shown = up || past ? [natPicture(peer), ratePlot(past, peer, interval), timePlot(past, peer)] : [natPicture(peer)];
  if (peer.problem && shown.length > 1) card.append(explained(peer));
  if (peer.problem && shown.length === 1) shown.push(explained(peer));
  card.append(el("div", { class: "body" }, ...shown));
  if (peer.children.length) card.append(tunnels(peer));
  const dropped = Object.entries(peer.drops || {}).sort().map(([name, n]) => `${name} ${count(n)}`);
  if (dropped.length) card.append(el("p", { class: "dropped" }, "dropped: ", dropped.join(", ")));
  return card;
}

const order = { down: 0, connecting: 1, up: 2 };

function drawPeers(status, history) {
  const pasts = new Map(history.peers.map((p) => [p.name, p]));
  const peers = [...status.peers].sort((a, b) => order[a.state] - order[b.state]);
  const drawn = peers.slice(0, maxPeers).map((p) => drawPeer(p, pasts.get(p.name), history.interval));
  if (peers.length > maxPeers) drawn.push(el("p", { class: "note" }, `and ${count(peers.length - maxPeers)} more: culvert status has them all`));
  if (!peers.length) drawn.push(el("p", { class: "note" }, "no peers are configured"));
  at("#peers").replaceChildren(...drawn);
}

function drawHead(s) {
  const up = s.peers.filter((p) => p.state === "up").length;
  const facts = [el("b", {}, s.config), `up ${span(Date.now() - Date.parse(s.started))}`, `device ${s.device.name}, MTU ${s.device.mtu}`, `AES-GCM by ${s.aes_gcm}`];
  at("#about").replaceChildren(...facts.map((f) => el("span", {}, f)));
  at("#sum").textContent = `${count(up)} of ${count(s.peers.length)} ${s.peers.length === 1 ? "peer" : "peers"} up`;
  document.title = `${up}/${s.peers.length} up – culvert`;
}

function drawFindings(s) {
  const all = s.findings.map((f) => el("div", { class: f.wrong ? "wrong" : "" }, el("b", {}, [f.peer, f.tunnel].filter(Boolean).join(", ") || "the gateway"), " ", ...prose(f.text)));
  at("#findings").hidden = all.length === 0;
  at("#findings > div").replaceChildren(...all);
}

function drawCounters(s) {
  const seen = Object.entries(s.drops).filter(([, n]) => n > 0).sort();
  at("#counters dl").replaceChildren(...(seen.length ? seen.flatMap(([name, n]) => [el("dt", {}, name), el("dd", {}, count(n))]) : [el("dt", { class: "none" }, "nothing was dropped")]));
}

let lastEvent = 0;

function addEvents(text) {
  const list = at("#events ol");
  for (const line of text.split("\n").filter(Boolean)) {
    const e = JSON.parse(line);
    lastEvent = Math.max(lastEvent, e.number || 0);
    const when = new Date(e.time);
    list.prepend(el("li", { class: e.level === "INFO" ? "" : "warn", "data-event": e.event }, el("time", { datetime: e.time, title: when.toLocaleString() }, when.toTimeString().slice(0, 8)), el("p", { title: e.msg.length > 200 ? e.msg : "" }, e.msg)));
  }
  while (list.children.length > maxEvents) list.lastChild.remove();
}

async function ask(where) {
  const answer = await fetch(where, { cache: "no-store" });
  if (!answer.ok) throw new Error(`${where}: ${answer.status}`);
  return answer;
}

async function look() {
  const live = at("#live");
  try {
    const [status, history, events] = await Promise.all([
      ask("v1/status").then((a) => a.json()), ask("v1/history").then((a) => a.json()), ask(`v1/events?follow=false&after=${lastEvent}`).then((a) => a.text())]);
    drawHead(status);
    drawPeers(status, history);
    drawFindings(status);
    drawCounters(status);
    addEvents(events);
    live.className = "";
    live.lastChild.textContent = "live, " + new Date().toTimeString().slice(0, 8);
    document.body.dataset.drawn = Number(document.body.dataset.drawn || 0) + 1;
  } catch (error) {
    live.className = "gone";
    live.lastChild.textContent = "the gateway does not answer";
    console.error(error);
  }
  setTimeout(look, every);
}

look();
